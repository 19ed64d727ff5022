"""Taylor's method of second order, for models that predict a velocity and an acceleration."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from flowgression.flow.solvers.base import Callback, SolverOutput, check_sample, fitted
from flowgression.flow.times import check_times

Derivatives = Callable[[Tensor, Tensor, Any], tuple[tuple[Tensor, Tensor], Any]]
"""derivatives(x, t, state) -> ((v, a), state): dx/dt and d^2x/dt^2; otherwise as a velocity."""


def taylor(
    derivatives: Derivatives,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    callback: Callback | None = None,
) -> SolverOutput:
    """x <- x + dt v + dt^2 a / 2, one evaluation of both a step.

    Order 2 where a is the derivative of v along the solution. Arguments and errors are those of `euler`.
    """
    check_sample(x)
    grid = check_times(times)
    stops = grid.tolist()
    for step in range(len(stops) - 1):
        (v, a), state = derivatives(x, grid[step], state)
        dt = stops[step + 1] - stops[step]
        x = x.add(fitted(v, x), alpha=dt).add_(fitted(a, x, "acceleration"), alpha=dt * dt / 2)
        if callback is not None:
            callback(step, stops[step + 1], x)
    return SolverOutput(x, state, len(stops) - 1)
