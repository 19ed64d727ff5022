"""What changes from scale to scale when FlowAR is sampled: guidance, number of steps, time grid.

K: scales. Time runs from t = 0 (noise) to t = 1 (data).
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.solvers import Solver
from flowgression.flow.times import given_times

TIME_GRIDS = ("uniform", "released")


def guidance_ramp(guidance_scale: float, num_scales: int) -> list[float]:
    """The guidance scale of each of K scales: 1 + (s - 1)(k - 1) / (K - 1) for k = 1 .. K; s itself if K = 1."""
    if num_scales == 1:
        return [guidance_scale]
    return [1 + (guidance_scale - 1) * k / (num_scales - 1) for k in range(num_scales)]


def annealed_steps(num_inference_steps: int, steps_last_scale: int | None, num_scales: int) -> list[int]:
    """The number of steps of each of K scales, from num_inference_steps at the first to steps_last_scale at the last.

    They change linearly, rounded down as in the authors' code (step annealing, arXiv 2505.20297, section 3.3). None
    keeps the number.

    Raises:
        InputError: less than one step.
    """
    last = num_inference_steps if steps_last_scale is None else steps_last_scale
    for name, n in (("num_inference_steps", num_inference_steps), ("steps_last_scale", last)):
        if isinstance(n, bool) or not isinstance(n, int) or n < 1:
            raise InputError(f"{name} must be an integer >= 1, not {n!r}.")
    if num_scales == 1:
        return [last]
    intervals = num_scales - 1
    return [last + (num_inference_steps - last) * (intervals - k) // intervals for k in range(num_scales)]


def scale_times(
    solver: Solver,
    num_inference_steps: int,
    time_grid: str,
    times: Sequence[float] | Tensor | None = None,
    options: Mapping[str, Any] | None = None,
) -> Tensor:
    """The rising times at which the flow of one scale is stopped, float64 on the CPU.

    "uniform": the solver's own grid, for most n equal steps, n + 1 points.
    "released": the grid of the released sampler, quirks and all: in noise levels 1 - t linspace(1, 0.3, n // 2), then
        linspace(0.25, 0, n // 2 + 1), so that an odd n makes n - 1 steps; uniform for n = 50.
    `times`: a grid of the caller's own instead.

    Raises:
        InputError: an unknown grid, "released" with n = 1 or a solver that has a grid of its own, or times that do not
            rise from 0 to 1.
    """
    options = options or {}
    if times is not None:
        return _walked(_wide(times), solver.extra_steps(options) > 0)
    if time_grid not in TIME_GRIDS:
        raise InputError(f"unknown time_grid {time_grid!r}. {did_you_mean(time_grid, TIME_GRIDS)}")
    n = num_inference_steps
    if time_grid == "uniform":
        return solver.own_grid(n, options, torch.float64)
    if solver.needs_noise or solver.adaptive:
        raise InputError(f"time_grid='released' and solver {solver.name!r}, which has its own, cannot be combined.")
    if n == 50:
        return torch.linspace(0, 1, n + 1, dtype=torch.float64)
    if n < 2:
        raise InputError("the released time grid needs at least 2 steps; use time_grid='uniform' for one.")
    wide: Any = {"dtype": torch.float64}
    return 1 - torch.cat([torch.linspace(1, 0.3, n // 2, **wide), torch.linspace(0.25, 0, n // 2 + 1, **wide)])


def _wide(times: Sequence[float] | Tensor) -> Tensor:
    """The caller's grid in float64. Of narrower ones six digits count: 1 - 0.6 must not fall below 0.4 (`FlowHead`)."""
    grid = given_times(times)
    if not isinstance(times, Tensor):
        return torch.as_tensor(times, dtype=torch.float64)
    return grid if grid.dtype == torch.float64 else grid.double().round(decimals=6)


def _walked(grid: Tensor, ends_early: bool) -> Tensor:
    """The caller's times, checked, float64."""
    if abs(grid[0]) > 1e-6 or (abs(grid[-1] - 1) > 1e-6 and not ends_early):
        raise InputError(f"times must rise from 0 (noise) to 1 (data), not from {grid[0]:g} to {grid[-1]:g}.")
    return grid
