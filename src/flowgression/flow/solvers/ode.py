"""Solvers of dx/dt = v(x, t) with given steps. Times may rise or fall; x may have any floating dtype."""

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from flowgression.flow.solvers.base import Callback, SolverOutput, Velocity, check_sample, evaluate
from flowgression.flow.times import check_times


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
    check_sample(x)
    grid = check_times(times)
    stops = grid.tolist()
    for step in range(len(stops) - 1):
        v, state = evaluate(velocity, x, grid[step], state)
        x = x.add(v, alpha=stops[step + 1] - stops[step])
        if callback is not None:
            callback(step, stops[step + 1], x)
    return SolverOutput(x, state, len(stops) - 1)


def heun(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    callback: Callback | None = None,
) -> SolverOutput:
    """Heun's method (explicit trapezoid), order 2: the mean slope of both ends of a step, two evaluations a step.

    Both evaluations read the same state; the state that goes on is the one the first returned, so a step adds
    one image to the context, as with `euler`. Arguments and errors are those of `euler`.
    """
    check_sample(x)
    grid = check_times(times)
    stops = grid.tolist()
    for step in range(len(stops) - 1):
        dt = stops[step + 1] - stops[step]
        v, next_state = evaluate(velocity, x, grid[step], state)
        v_end, _ = evaluate(velocity, x.add(v, alpha=dt), grid[step + 1], state)
        x = x.add(v, alpha=dt / 2).add_(v_end, alpha=dt / 2)
        state = next_state
        if callback is not None:
            callback(step, stops[step + 1], x)
    return SolverOutput(x, state, 2 * (len(stops) - 1))
