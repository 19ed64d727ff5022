"""What the samplers of all families share: checks before the first network call, and the choice of a solver.

Letters: B images, C H W channels and size of a latent.
"""

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.guidance import Guidance
from flowgression.flow.paths import get_path
from flowgression.flow.solvers import SOLVERS, Callback, Noise, SolverOutput, Velocity
from flowgression.flow.times import given_times, sde_times, uniform_times

SampleOutput = SolverOutput
"""sample [B,C,H,W]; the state after the last step (None for models without one); num_calls network calls."""

# Other names of solvers that are in use elsewhere.
ALIASES = {"sde": "euler_maruyama", "euler-maruyama": "euler_maruyama"}
SOLVER_NAMES = (*SOLVERS, *ALIASES)
_GIVEN_HERE = {"velocity", "x", "times", "state", "noise", "callback"}


def solver_name(name: str, *, stateful: bool) -> str:
    """The name in `SOLVERS` that `name` stands for.

    Raises:
        InputError: an unknown name, or for a model with a state (`stateful`) a solver that repeats steps.
    """
    full = ALIASES.get(name, name)
    if full not in SOLVERS:
        raise InputError(f"unknown solver {name!r}: {did_you_mean(name, SOLVER_NAMES)}")
    if stateful and full == "dopri5":
        raise InputError(
            "solver 'dopri5' goes back and forth in time and cannot be used by a model whose steps read the steps "
            "before them; use 'euler', 'heun' or 'sde'."
        )
    return full


def check_inputs(config: Any, z: Tensor, class_labels: Tensor, guidance: Guidance) -> None:
    """Refuse what a sampler cannot work with.

    Args:
        config: the model's configuration, with in_channels, num_classes and class_dropout_prob.
        z: [B,C,H,W], floating. class_labels: [B], int64 in 0 .. num_classes (the last is the null label).

    Raises:
        InputError: shapes or labels that do not fit, or guidance by a model that knows no null label.
    """
    if z.ndim != 4 or not z.is_floating_point() or z.shape[1] != config.in_channels or len(z) == 0:
        raise InputError(
            f"z must be noise [B, {config.in_channels}, H, W] with B >= 1; got {list(z.shape)} of {z.dtype}."
        )
    if class_labels.shape != z.shape[:1] or class_labels.dtype != torch.int64:
        raise InputError(
            f"class_labels must be int64 of shape [{len(z)}], one for each row of z; "
            f"got {class_labels.dtype} of shape {list(class_labels.shape)}."
        )
    low, high = torch.stack(class_labels.aminmax()).tolist()  # one wait for the device
    if low < 0 or high > config.num_classes:
        raise InputError(
            f"class label {low if low < 0 else high} is out of range: 0 to {config.num_classes - 1}, "
            f"or the null label {config.num_classes}."
        )
    if guidance.enabled and config.class_dropout_prob == 0:
        raise InputError(
            f"guidance_scale is {guidance.scale}, but this model was trained without a null label "
            "(class_dropout_prob = 0); set guidance_scale=1."
        )


def integrate(
    velocity: Velocity,
    z: Tensor,
    *,
    solver: str,
    num_inference_steps: int,
    times: Sequence[float] | Tensor | None,
    noise: Noise | None,
    callback: Callback | None,
    options: dict[str, Any],
) -> SampleOutput:
    """Walk from noise z [B,C,H,W] at t = 0 to data at t = 1 with the solver of this (full) name.

    The sample is held in float32, also for a model in half precision (in float64 if z is). The other arguments are
    those of `flowgression.sampling.arflow.sample`.

    Raises:
        InputError: an unknown option, a missing noise, or times that are no grid.
    """
    function = SOLVERS[solver]
    allowed = set(inspect.signature(function).parameters) - _GIVEN_HERE
    for name in options:
        if name not in allowed:
            raise InputError(f"solver {solver!r} has no option {name!r}: {did_you_mean(name, sorted(allowed))}")
    x = z if z.dtype == torch.float64 else z.float()
    extra: dict[str, Any] = dict(options)
    if isinstance(extra.get("path"), str):
        extra["path"] = get_path(extra["path"])
    if noise is not None and solver != "euler_maruyama":
        raise InputError(f"solver {solver!r} uses no noise; leave noise out, or use solver 'sde'.")
    if solver == "dopri5":
        return function(velocity, x, (0.0, 1.0) if times is None else given_times(times), **extra)
    if solver == "euler_maruyama":
        if noise is None:
            raise InputError("an SDE needs noise=: one tensor like z for each step, or a function of the step's index.")
        extra["noise"] = noise
    grid = time_grid(solver, num_inference_steps, times, options)
    return function(velocity, x, grid, callback=callback, **extra)


def time_grid(
    solver: str, num_inference_steps: int, times: Sequence[float] | Tensor | None, options: dict[str, Any]
) -> Tensor:
    """The grid of a solver with fixed steps: [n + 1] points, or for an SDE the [n] points before its last step."""
    if times is not None:
        return given_times(times)
    if solver != "euler_maruyama":
        return uniform_times(num_inference_steps)
    last = options.get("last_step_size", 0.04) if options.get("last_step", "mean") is not None else 0.0
    # The diffusion of score SDEs is infinite at t = 0; just behind it the sample is still noise to 1 %.
    start = 0.01 if options.get("diffusion") == "sbdm" else 0.0
    return sde_times(num_inference_steps, last, start=start)


def count_steps(
    solver: str, num_inference_steps: int, times: Sequence[float] | Tensor | None, options: dict[str, Any]
) -> int:
    """How often a solver with fixed steps calls its callback."""
    has_last_step = solver == "euler_maruyama" and options.get("last_step", "mean") is not None
    return len(time_grid(solver, num_inference_steps, times, options)) - 1 + has_last_step


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` >= 2 of the indices 0 .. count - 1, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]
