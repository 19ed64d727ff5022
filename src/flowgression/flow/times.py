"""Time grids: the points at which a solver stops, from noise (t = 0) to data (t = 1).

A grid is a 1-D floating tensor on the CPU; n steps have n + 1 points. A model whose t = 1 is noise walks
`1 - uniform_times(n)`.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor

from flowgression.errors import InputError


def uniform_times(num_inference_steps: int, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """n equal steps: [n + 1] points from 0 to 1. InputError unless n >= 1.

    >>> from flowgression.flow import uniform_times
    >>> uniform_times(4).tolist()
    [0.0, 0.25, 0.5, 0.75, 1.0]
    """
    return torch.linspace(0, 1, _check_steps(num_inference_steps) + 1, dtype=dtype)


def shifted_times(num_inference_steps: int, shift: float, *, dtype: torch.dtype = torch.float32) -> Tensor:
    """n steps made shorter near the noise by shift > 1, near the data by shift < 1; [n + 1] points from 0 to 1.

    The noise level u = 1 - t becomes shift u / (1 + (shift - 1) u) (Stable Diffusion 3, arXiv 2403.03206,
    equation 23). InputError unless n >= 1 and shift > 0.

    >>> from flowgression.flow import shifted_times
    >>> [round(t, 3) for t in shifted_times(4, shift=3.0).tolist()]
    [0.0, 0.1, 0.25, 0.5, 1.0]
    """
    if not (math.isfinite(shift) and shift > 0):
        raise InputError(f"shift must be a finite number > 0 (1 changes nothing), not {shift}.")
    t = uniform_times(num_inference_steps, dtype=dtype)
    return t / (shift - (shift - 1) * t)


def given_times(times: Sequence[float] | Tensor, *, dtype: torch.dtype | None = None) -> Tensor:
    """The caller's own grid, checked: at least two points in [0, 1], all rising or all falling.

    `dtype`: None keeps a tensor's dtype and makes numbers float32. Raises InputError.
    """
    grid = check_times(times)
    low, high = grid.aminmax()
    if low < 0 or high > 1:
        raise InputError(f"Times lie in [0, 1], not in [{low:g}, {high:g}].")
    return grid if dtype is None else grid.to(dtype)


def sde_times(
    num_inference_steps: int,
    last_step_size: float = 0.04,
    *,
    start: float = 0.0,
    dtype: torch.dtype = torch.float32,
) -> Tensor:
    """The grid of `euler_maruyama` for an NFE of n.

    n points from `start` to 1 - last_step_size, after which the solver adds its last step (the released ARFlow and
    SiT samplers). last_step_size = 0 stands for `last_step=None`: n + 1 points from `start` to 1. `start` must be
    above 0 for the diffusion "sbdm", which is infinite at t = 0. Raises InputError unless n >= 1 (n >= 2 with a last
    step) and 0 <= start < 1 - last_step_size <= 1.
    """
    if not 0 <= last_step_size < 1:
        raise InputError(f"last_step_size must lie in [0, 1), not {last_step_size}.")
    if not 0 <= start < 1 - last_step_size:
        raise InputError(f"start must lie in [0, 1 - last_step_size) = [0, {1 - last_step_size:g}), not {start}.")
    n = _check_steps(num_inference_steps)
    if last_step_size == 0:
        return torch.linspace(start, 1, n + 1, dtype=dtype)
    if n < 2:
        raise InputError(
            "num_inference_steps must be at least 2 for an SDE with a last step, not 1; "
            "a single step needs solver 'euler'."
        )
    return torch.linspace(start, 1 - last_step_size, n, dtype=dtype)


def check_times(times: Sequence[float] | Tensor) -> Tensor:
    """`times` as a 1-D floating CPU tensor, if it is a grid a solver can walk: finite, strictly rising or falling.

    Raises InputError.
    """
    try:
        grid = torch.as_tensor(times).detach().cpu()
    except (TypeError, ValueError, RuntimeError) as error:
        raise InputError(f"Times must be a list of numbers, not {times!r}.") from error
    if not grid.is_floating_point():
        grid = grid.to(torch.float32)
    if grid.ndim != 1 or len(grid) < 2:
        raise InputError(f"Times must be a list of at least two numbers, not of shape {list(grid.shape)}.")
    steps = grid.diff()
    if not bool(grid.isfinite().all()) or not bool((steps > 0).all() or (steps < 0).all()):
        raise InputError(f"Times must be finite and strictly rising or strictly falling, not {grid.tolist()}.")
    return grid


def _check_steps(n: int) -> int:
    if isinstance(n, bool) or not isinstance(n, int) or n < 1:
        raise InputError(f"num_inference_steps must be an integer >= 1, not {n!r}.")
    return n
