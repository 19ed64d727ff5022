"""The adaptive Runge-Kutta solver of Dormand and Prince, from torchdiffeq."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.solvers.base import SolverOutput, Velocity, check_sample, evaluate
from flowgression.flow.times import check_times


def dopri5(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float] = (0.0, 1.0),
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> SolverOutput:
    """Integrate from times[0] to times[-1] with an error per step below atol + rtol |x| (root mean square over x).

    For velocities without state only: trial steps are rejected and times revisited, so that a context of earlier steps
    has no meaning. The steps are chosen for the whole batch, so an image depends on its batch within the tolerance.
    Arguments and errors are those of `euler`; InputError also for tolerances <= 0 and a velocity that returns a state.
    """
    from torchdiffeq import odeint

    check_sample(x)
    if not (rtol > 0 and atol > 0):
        raise InputError(f"rtol and atol must be > 0, not {rtol} and {atol}.")
    num_calls = 0

    def slope(t: Tensor, y: Tensor) -> Tensor:
        nonlocal num_calls
        num_calls += 1
        v, state = evaluate(velocity, y, t.detach().cpu(), None)
        if state is not None:
            raise InputError("dopri5 takes models without state; use 'euler' or 'heun' for this one.")
        return v

    ends = check_times(times)[[0, -1]].to(x)
    # torchdiffeq keeps its clock in float64, which Apple's GPUs lack.
    options: dict[str, Any] = {"dtype": torch.float32} if x.device.type == "mps" else {}
    sample = odeint(slope, x, ends, method="dopri5", rtol=rtol, atol=atol, options=options)[-1]
    return SolverOutput(sample, None, num_calls)
