"""What the samplers of all families share: checks before the network is called, guidance, and the walk of a solver.

Letters: B images, C H W channels and size of a latent.
"""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.guidance import Guidance
from flowgression.flow.paths import get_path
from flowgression.flow.solvers import SOLVERS, Callback, Noise, Solver, SolverOutput, Velocity, get_solver
from flowgression.sampling.options import SamplingOptions
from flowgression.sampling.prepared import PreparedTimes

SampleOutput = SolverOutput
"""sample [B,C,H,W]; the state after the last step (None for models without one); num_calls: NFE."""
Call = Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]]
"""call(x [B,C,H,W], prepared [R,F], state) -> (velocity [R,C,H,W], state): a model; R is B or 2B."""


def pick_solver(name: str, *, stateful: bool = False, derivatives: int = 1) -> Solver:
    """The solver called `name`.

    Args:
        stateful: the model's calls read the steps before them.
        derivatives: how many derivatives of the flow the model predicts.

    Raises:
        InputError: an unknown name, or a solver that such a model cannot use.
    """
    solver = get_solver(name)
    fitting = [each for each in SOLVERS.values() if each.derivatives <= derivatives]
    *most, last = [repr(each.short_name) for each in fitting if not (stateful and each.adaptive)]
    known = f"{', '.join(most)} or {last}"
    if stateful and solver.adaptive:
        raise InputError(
            f"solver {solver.name!r} goes back and forth in time and cannot be used by a model whose steps read the "
            f"steps before them; use {known}."
        )
    if solver.derivatives > derivatives:
        raise InputError(
            f"solver {solver.name!r} reads {solver.derivatives} derivatives of the flow, but this model predicts "
            f"{derivatives}; use {known}."
        )
    return solver


def path_of(model: Any) -> str:
    """The name of the path that a model was trained on."""
    return getattr(model.config, "path", "linear")


def settle_options(solver: Solver, model: Any, options: Mapping[str, Any]) -> dict[str, Any]:
    """The solver's options for a model: the path is the model's unless another is given.

    Raises:
        InputError: an option or a path that does not exist.
    """
    solver.check_options(options)
    settled = dict(options)
    if solver.reads_path:
        path = settled.get("path", path_of(model))
        settled["path"] = get_path(path) if isinstance(path, str) else path
    return settled


def check_noise(solver: Solver, noise: object) -> None:
    """InputError unless noise is there exactly where the solver needs some."""
    if noise is not None and not solver.needs_noise:
        raise InputError(f"solver {solver.name!r} uses no noise; leave noise out, or use solver 'sde'.")
    if noise is None and solver.needs_noise:
        raise InputError("an SDE needs noise=: one tensor like z for each step, or a function of the step's index.")


def check_inputs(config: Any, z: Tensor, class_labels: Tensor, guidance: Guidance) -> list[int]:
    """Refuse what a sampler cannot work with. Returns the class labels as numbers.

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
    ids = class_labels.tolist()  # one wait for the device
    low, high = min(ids), max(ids)
    if low < 0 or high > config.num_classes:
        raise InputError(
            f"class label {low if low < 0 else high} is out of range: 0 to {config.num_classes - 1}, "
            f"or the null label {config.num_classes}."
        )
    guidance.check_null_label(config.class_dropout_prob)
    return ids


def guided_velocity(
    call: Call, model: Any, class_labels: Tensor, ids: list[int], guidance: Guidance, times: Tensor, *, stateful: bool
) -> Velocity:
    """The velocity that a solver walks: `call`, guided where guidance applies.

    A guided call has B rows of the same images for each of `guidance.weights`, the conditional ones first. Where
    guidance is off these run alone, but in a model with a state (`stateful`) all do: each reads and advances its own.

    ids: class_labels as numbers. times: at which the velocity will be asked for, as far as they are known.
    """
    ids = [model.config.num_classes if name == "null" else label for name in guidance.weights for label in ids]
    different = list(dict.fromkeys(ids))  # what is prepared once for all images
    row_of = {label: row for row, label in enumerate(different)}
    numbers = torch.tensor([*different, *(row_of[label] for label in ids)], device=class_labels.device)
    labels, of_both = numbers.split([len(different), len(ids)])
    of_class = of_both[: len(class_labels)]
    step_bytes = len(different) * sum(model.prepared_sizes) * model.dtype.itemsize
    prepared = PreparedTimes(lambda t: model.prepare(t, labels), times, step_bytes, class_labels.device)

    def velocity(x: Tensor, t: Tensor, state: Any) -> tuple[Tensor, Any]:
        guided = guidance.active(float(t))
        both = guided or (stateful and guidance.enabled)
        v, state = call(x.to(model.dtype), prepared.at(float(t))[of_both if both else of_class], state)
        v = v.to(x.dtype)
        if not both:
            return v, state
        parts = v.chunk(len(guidance.weights))
        return guidance.combine(*parts) if guided else parts[0], state

    return velocity


def guidance_of(options: SamplingOptions) -> Guidance:
    """The guidance that sampling options ask for, whatever of it their class knows."""
    return Guidance(
        options.guidance_scale,
        options.guidance_interval,
        getattr(options, "guided_channels", None),
        getattr(options, "example_guidance_scale", None),
    )


def denoise(
    call: Call,
    model: Any,
    z: Tensor,
    class_labels: Tensor,
    options: SamplingOptions,
    *,
    stateful: bool,
    new_state: Callable[[int], Any] | None = None,
    noise: Noise | None,
    callback: Callback | None,
    method: Solver | None = None,
) -> SampleOutput:
    """Walk from noise z [B,C,H,W] at t = 0 to data at t = 1; see `families.arflow.sampling.sample` for the arguments.

    new_state: a number of rows -> the state of a model with one before the first step.

    The sample is held in float32, also for a model in half precision (in float64 if z is).

    Raises:
        InputError: whatever cannot work, before the network is called.
    """
    guidance = guidance_of(options)
    solver = method or pick_solver(options.solver, stateful=stateful)
    ids = check_inputs(model.config, z, class_labels, guidance)
    extra = settle_options(solver, model, options.solver_options)
    check_noise(solver, noise)
    grid = solver.grid(options.num_inference_steps, options.times, extra)
    if solver.needs_noise:
        extra["noise"] = noise
    if not solver.adaptive:
        extra["callback"] = callback
    velocity = guided_velocity(call, model, class_labels, ids, guidance, solver.evaluated_at(grid), stateful=stateful)
    if new_state is not None:  # so that the first step is called as all others are
        extra["state"] = new_state(len(z) * len(guidance.weights))
    return solver.integrate(velocity, z if z.dtype == torch.float64 else z.float(), grid, **extra)


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` >= 2 of the indices 0 .. count - 1, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]
