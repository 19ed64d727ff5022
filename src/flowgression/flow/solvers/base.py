"""What all solvers share: the type of a velocity, the result, and the checks of their input."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

from flowgression.errors import InputError

Velocity = Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]]
"""velocity(x, t, state) -> (v, new state).

x, v: the sample and its velocity, equal shapes. t: 0-dimensional tensor on the CPU, whatever x's device, in the
dtype of the grid: `float(t)` never waits for an accelerator, and `x.new_full((B,), float(t))` is the time of a batch.
state: None at first unless the caller gives one.
"""

Callback = Callable[[int, float, Tensor], None]
"""callback(step, t, x) after each step: its index from 0, the time reached, the sample there."""


class SolverOutput(NamedTuple):
    """sample: x at the last time, with the shape and dtype of the initial x. num_calls: evaluations of the velocity."""

    sample: Tensor
    state: Any
    num_calls: int


def check_sample(x: Tensor) -> None:
    """InputError unless x is floating."""
    if not x.is_floating_point():
        raise InputError(f"The initial sample must be floating, not {x.dtype}.")


def evaluate(velocity: Velocity, x: Tensor, t: Tensor, state: Any) -> tuple[Tensor, Any]:
    """velocity(x, t, state), with v in the dtype of x; InputError if v has another shape than x."""
    v, state = velocity(x, t, state)
    return fitted(v, x), state


def fitted(derivative: Tensor, x: Tensor, what: str = "velocity") -> Tensor:
    """`derivative` in the dtype of x; InputError if it has another shape than x."""
    if derivative.shape != x.shape:
        raise InputError(f"The {what} has shape {list(derivative.shape)}, but the sample {list(x.shape)}.")
    return derivative.to(x.dtype)
