"""Solvers of dx/dt = v(x, t) with given steps. Times may rise or fall; x may have any floating dtype.

A method is a function of one step; `walk` takes it along a grid. A new one is a step and an entry in `SOLVERS`.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.solvers.base import Callback, SolverOutput, Velocity, check_sample, evaluate
from flowgression.flow.times import check_times

Step = Callable[[Velocity, Tensor, Tensor, Tensor, float, Any], tuple[Tensor, Any]]
"""step(slope, x, t, t_next, dt, state) -> (x at t_next, state); t, t_next as a velocity takes them, dt = t_next - t."""


def euler_step(slope: Velocity, x: Tensor, t: Tensor, t_next: Tensor, dt: float, state: Any) -> tuple[Tensor, Any]:
    """x + dt v(x, t)."""
    v, state = slope(x, t, state)
    return x.add(v, alpha=dt), state


def heun_step(slope: Velocity, x: Tensor, t: Tensor, t_next: Tensor, dt: float, state: Any) -> tuple[Tensor, Any]:
    """x plus dt times the mean slope of both ends. Both read the same state; the first one's goes on."""
    v, next_state = slope(x, t, state)
    v_end, _ = slope(x.add(v, alpha=dt), t_next, state)
    return x.add(v, alpha=dt / 2).add_(v_end, alpha=dt / 2), next_state


def midpoint_step(slope: Velocity, x: Tensor, t: Tensor, t_next: Tensor, dt: float, state: Any) -> tuple[Tensor, Any]:
    """x plus dt times the slope in the middle of the step. Both read the same state; the first one's goes on."""
    v, next_state = slope(x, t, state)
    v_middle, _ = slope(x.add(v, alpha=dt / 2), (t + t_next) / 2, state)
    return x.add(v_middle, alpha=dt), next_state


def with_middles(times: Tensor) -> Tensor:
    """times [n + 1] -> [2n], the start and the middle of every step."""
    return torch.stack([times[:-1], (times[:-1] + times[1:]) / 2], dim=1).flatten()


HEUN_LAST_STEPS: dict[str, Step] = {"euler": euler_step, "heun": heun_step}


def walk(
    step: Callable[..., tuple[Tensor, Any]],
    velocity: Any,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    last_step: Step | None = None,
    callback: Callback | None = None,
    read: Callable[..., tuple[Any, Any]] = evaluate,
) -> SolverOutput:
    """`step` along `times`, and at the end once `last_step` where it is given; see `euler` for the rest.

    read: (velocity, x, t, state) -> what a step is given of the velocity, checked; and the state.
    """
    check_sample(x)
    grid = check_times(times)
    stops = grid.tolist()
    num_calls = 0

    def slope(x: Tensor, t: Tensor, state: Any) -> tuple[Any, Any]:
        nonlocal num_calls
        num_calls += 1
        return read(velocity, x, t, state)

    for index in range(len(stops) - 1):
        is_last = index == len(stops) - 2
        advance = last_step if is_last and last_step is not None else step
        dt = stops[index + 1] - stops[index]
        x, state = advance(slope, x, grid[index], grid[index + 1], dt, state)
        if callback is not None:
            callback(index, stops[index + 1], x)
    return SolverOutput(x, state, num_calls)


def euler(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    callback: Callback | None = None,
) -> SolverOutput:
    """Euler's method, order 1: x <- x + dt v(x, t), one evaluation a step.

    x: the sample at times[0], any shape, floating. times: [n + 1], strictly rising or falling. Raises InputError for
    other times, for an x that is not floating, and for a velocity of another shape.
    """
    return walk(euler_step, velocity, x, times, state, callback=callback)


def heun(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    last_step: str = "euler",
    callback: Callback | None = None,
) -> SolverOutput:
    """Heun's method (explicit trapezoid), order 2: the mean slope of both ends of a step, two evaluations a step.

    The last step is Euler's, as in EDM (arXiv 2206.00364, algorithm 1), 2n - 1 evaluations in all: its second slope
    would be taken at the data end, where networks are worst, and one step of order 1 leaves the whole at order 2.
    last_step="heun" takes it nevertheless.

    Both evaluations read the same state; the state that goes on is the one the first returned, so a step adds
    one image to the context, as with `euler`. Other arguments and errors are those of `euler`.
    """
    if last_step not in HEUN_LAST_STEPS:
        raise InputError(f"Unknown last_step {last_step!r}. {did_you_mean(last_step, HEUN_LAST_STEPS)}")
    return walk(heun_step, velocity, x, times, state, last_step=HEUN_LAST_STEPS[last_step], callback=callback)


def midpoint(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    callback: Callback | None = None,
) -> SolverOutput:
    """The midpoint rule (explicit, Runge 1895), order 2: the slope in the middle of a step, two evaluations a step.

    None of them is at the end of the grid, so the data end of a path needs no step of its own, as it does with `heun`.
    The state is treated as there; arguments and errors are those of `euler`.
    """
    return walk(midpoint_step, velocity, x, times, state, callback=callback)
