"""Euler-Maruyama for the sampling SDE  dx = (v + w s) dt + sqrt(2 w) dW  (SiT, arXiv 2401.08740, equation 5).

The score is linear in velocity and sample, s = a(t) v + b(t) x, so that a whole step is

    x <- (1 + w b dt) x + (1 + w a) dt v + sqrt(2 w dt) noise

with numbers known before the first step.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.diffusion import diffusion_coefficient
from flowgression.flow.paths import LinearPath, ProbabilityPath
from flowgression.flow.solvers.base import Callback, SolverOutput, Velocity, check_sample, evaluate
from flowgression.flow.times import check_times, sde_times

Noise = Callable[[int], Tensor] | Sequence[Tensor] | Tensor
"""One N(0, I) tensor like x per Euler-Maruyama step: a function of the step's index, or all of them."""

_LINEAR = LinearPath()


class _Step(NamedTuple):
    """x <- keep x + move v + spread noise."""

    keep: float
    move: float
    spread: float


def _tweedie(t: Tensor, path: ProbabilityPath) -> _Step:
    c = path.coefficients(t)
    return _Step(float(c.d_sigma / c.determinant), float(-c.sigma / c.determinant), 0.0)


LAST_STEPS: dict[str, Callable[[_Step, float, Tensor, ProbabilityPath], _Step]] = {
    "mean": lambda mean, size, t, path: mean,
    "euler": lambda mean, size, t, path: _Step(1.0, size, 0.0),
    "tweedie": lambda mean, size, t, path: _tweedie(t, path),
}
"""(the SDE's step from t without its noise, its size, t, path) -> the step taken."""


def euler_maruyama(
    velocity: Velocity,
    x: Tensor,
    times: Tensor | Sequence[float],
    state: Any = None,
    *,
    noise: Noise,
    path: ProbabilityPath = _LINEAR,
    diffusion: str = "sigma",
    diffusion_norm: float = 1.0,
    last_step: str | None = "mean",
    last_step_size: float = 0.04,
    callback: Callback | None = None,
) -> SolverOutput:
    """Euler-Maruyama (weak order 1) along `times`, then one step without noise from times[-1] to 1.

    x: the sample at times[0], any shape, floating. times: [n] rising in [0, 1], see `sde_times`; n - 1 steps.
    noise: see `Noise`; moved to x's device and dtype. path: what the velocity was trained on.
    diffusion, diffusion_norm: w(t), see `flowgression.flow.diffusion`.
    last_step: "mean" the SDE without its noise; "euler" the ODE; "tweedie" E[x1 | x], the best guess of the data;
        None no last step. The first two have size last_step_size, which must be what is left: 1 - times[-1].
    num_calls is n, or n - 1 for last_step None. Raises InputError for any of these out of range, before the first step
    unless a noise has the wrong shape.
    """
    check_sample(x)
    grid = check_times(times)
    stops = grid.tolist()
    num_steps = len(stops) - 1
    _check(stops, noise, last_step, last_step_size)
    steps = _plan(stops, path, diffusion, diffusion_norm, last_step, last_step_size)
    draw = noise if callable(noise) else noise.__getitem__
    for step in range(num_steps):
        v, state = evaluate(velocity, x, grid[step], state)
        x = _advance(x, v, draw(step), steps[step])
        if callback is not None:
            callback(step, stops[step + 1], x)
    if last_step is None:
        return SolverOutput(x, state, num_steps)
    v, state = evaluate(velocity, x, grid[-1], state)
    x = x.mul(steps[-1].keep).add_(v, alpha=steps[-1].move)
    if callback is not None:
        callback(num_steps, 1.0, x)
    return SolverOutput(x, state, num_steps + 1)


def has_last_step(options: Mapping[str, Any]) -> bool:
    """Whether `euler_maruyama` with these options adds a step behind the last of its times."""
    return options.get("last_step", "mean") is not None


def own_times(num_inference_steps: int, options: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
    """The grid of `euler_maruyama` with these options for n evaluations."""
    last = options.get("last_step_size", 0.04) if has_last_step(options) else 0.0
    # The diffusion of score SDEs is infinite where alpha = 0, as at t = 0 on all paths but vp; just behind it the
    # sample is still noise to 1 %.
    path = options.get("path", _LINEAR)
    begins_without_data = float(path.coefficients(torch.zeros((), dtype=torch.float64)).alpha) == 0
    start = 0.01 if options.get("diffusion") == "sbdm" and begins_without_data else 0.0
    return sde_times(num_inference_steps, last, start=start, dtype=dtype)


def _advance(x: Tensor, v: Tensor, noise: Tensor, step: _Step) -> Tensor:
    if noise.shape != x.shape:
        raise InputError(f"Each noise must have the shape of the sample, {list(x.shape)}, not {list(noise.shape)}.")
    return (
        x.mul(step.keep)
        .add_(v, alpha=step.move)
        .add_(noise.to(x, non_blocking=noise.device.type == "cpu"), alpha=step.spread)
    )


def _plan(
    stops: list[float], path: ProbabilityPath, diffusion: str, norm: float, last_step: str | None, last_step_size: float
) -> list[_Step]:
    """The numbers of every step, in float64; the last step, if any, comes last."""
    t = torch.tensor(stops if last_step is not None else stops[:-1], dtype=torch.float64)
    w = diffusion_coefficient(diffusion, t, path, norm)
    a, b = path.score_coefficients(t)
    drift_v, drift_x = 1 + w * a, w * b
    sizes = torch.tensor([*stops[1:], stops[-1] + last_step_size][: len(t)], dtype=torch.float64) - t
    keep, move, spread = 1 + drift_x * sizes, drift_v * sizes, torch.sqrt(2 * w * sizes)
    steps = [_Step(*numbers) for numbers in torch.stack((keep, move, spread), dim=1).tolist()]
    if last_step is not None:
        steps[-1] = LAST_STEPS[last_step](steps[-1], last_step_size, t[-1], path)
    for at, numbers in zip(t.tolist(), steps, strict=True):
        if not all(math.isfinite(number) for number in numbers):
            raise InputError(
                f"Diffusion {diffusion!r} on path {path.name!r} is infinite at t = {at:g}; "
                "begin later or end earlier, for example with sde_times(n, last_step_size=0.04, start=0.01)."
            )
    return steps


def _check(stops: list[float], noise: Noise, last_step: str | None, last_step_size: float) -> None:
    if not 0 <= stops[0] < stops[-1] <= 1:
        raise InputError(
            f"Times of an SDE rise from noise to data within [0, 1], not from {stops[0]:g} to {stops[-1]:g}."
        )
    if not callable(noise) and not isinstance(noise, Sequence | Tensor):
        raise InputError(f"noise must be a function of the step or a list of tensors, not {type(noise).__name__}.")
    if not callable(noise) and len(noise) != len(stops) - 1:
        raise InputError(f"{len(stops) - 1} Euler-Maruyama steps need as many noises, not {len(noise)}.")
    if last_step is None:
        return
    if last_step not in LAST_STEPS:
        raise InputError(f"Unknown last_step {last_step!r}. {did_you_mean(last_step, [*LAST_STEPS, 'None'])}")
    if last_step != "tweedie" and not math.isclose(stops[-1] + last_step_size, 1, abs_tol=1e-5):
        raise InputError(
            f"The last step of size {last_step_size:g} from t = {stops[-1]:g} does not end at 1: "
            f"set last_step_size={1 - stops[-1]:g}, or use sde_times(n, {last_step_size:g})."
        )
