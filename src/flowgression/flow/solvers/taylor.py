"""Taylor's method of second order, for models that predict a velocity and an acceleration."""

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from flowgression.flow.solvers.base import Callback, SolverOutput, fitted
from flowgression.flow.solvers.ode import walk

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
    return walk(_step, derivatives, x, times, state, callback=callback, read=_read)


def _read(derivatives: Derivatives, x: Tensor, t: Tensor, state: Any) -> tuple[tuple[Tensor, Tensor], Any]:
    (v, a), state = derivatives(x, t, state)
    return (fitted(v, x), fitted(a, x, "acceleration")), state


def _step(slopes: Any, x: Tensor, t: Tensor, t_next: Tensor, dt: float, state: Any) -> tuple[Tensor, Any]:
    (v, a), state = slopes(x, t, state)
    return x.add(v, alpha=dt).add_(a, alpha=dt * dt / 2), state
