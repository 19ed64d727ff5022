"""What is asked of a sampler, as one value: settled and checked once, where it enters, before the network is called."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.guidance import Guidance
from flowgression.flow.paths import get_path
from flowgression.flow.solvers import SOLVERS, Noise, Solver, get_solver
from flowgression.registry import family_of
from flowgression.sampling.between import Label, classes_of
from flowgression.sampling.edit import Edit
from flowgression.sampling.options import NONE, History, SamplingOptions

AVERAGE_SAMPLING = {"num_inference_steps": 2, "guidance_scale": 1.0}
"""Defaults of models of average velocities: few calls, and the guidance is in their weights."""


@dataclass(frozen=True, kw_only=True)
class Sampling:
    """A request for B images of one model.

    Attributes:
        class_ids: B of them, 0 .. num_classes; the last is the null label (no class). Or mixtures of two.
        options: the sampling options, of the class of the model's family.
        guidance: what they say of it.
        guide: the worse model of autoguidance; None: the model itself, without a class.
        solver, solver_options: what walks, and its own options for this model.
        past: which earlier steps a step reads; NONE for models without a state.
        noise: for the SDE, one tensor like the sample a step, or a function of the step's index.
        callback: called after each step, or each scale, as the sampler says.
        edit: what is given of the images; None: nothing.
    """

    class_ids: list[Label]
    options: Any
    guidance: Guidance
    solver: Solver
    solver_options: Mapping[str, Any]
    past: History = NONE
    noise: Noise | None = None
    callback: Callable[..., None] | None = None
    edit: Edit | None = None
    guide: Any = None

    @property
    def whole_grid(self) -> Tensor:
        """The times from noise to data."""
        return self.solver.grid(self.options.num_inference_steps, self.options.times, self.solver_options)

    @property
    def grid(self) -> Tensor:
        """The times of the walk: all, or those that an image to begin with leaves."""
        return self.whole_grid if self.edit is None else self.edit.remaining(self.whole_grid)

    @property
    def num_steps(self) -> int:
        """The steps of the walk; 0 for adaptive solvers, which choose their own."""
        return self.solver.num_steps(self.grid, self.solver_options)


def settle(
    model: Any,
    class_ids: Sequence[Label],
    options: SamplingOptions,
    *,
    past: History = NONE,
    derivatives: int = 1,
    method: Solver | None = None,
    noise: Noise | None = None,
    callback: Callable[..., None] | None = None,
    edit: Edit | None = None,
    guide: Any = None,
) -> Sampling:
    """A request for one image of `model` for each class id.

    Args:
        past: which steps the model's calls read.
        derivatives: how many derivatives of the flow the model predicts.
        method: a solver of the caller's own instead of the named one.
        guide: the model that `options.guidance_model` names.

    Raises:
        InputError: a class that the model does not have, guidance without a null label, by a label never seen or by a
            model that does not fit, a solver or an option of one that does not exist or does not fit the model.
    """
    guidance = guidance_of(options)
    if guidance.by_model:
        check_guide(model, guide, guidance)
    named = classes_of(class_ids)
    low, high = min(named), max(named)
    if low < 0 or high > model.config.num_classes:
        raise InputError(
            f"class label {low if low < 0 else high} is out of range: 0 to {model.config.num_classes - 1}, "
            f"or the null label {model.config.num_classes}."
        )
    guidance.check_null_label(model.config.class_dropout_prob)
    if guidance.enabled and model.config.class_dropout_prob == 1 and low < model.config.num_classes:
        raise InputError(
            f"guidance by class label {low}, but this model was trained with all labels dropped (class_dropout_prob = "
            "1): it never saw one. Set guidance_scale=1, and take images of any label as images of no class."
        )
    if guidance.every > 1 and past.reads_steps:
        raise InputError(
            f"guidance_every={guidance.every} saves nothing in a model whose steps read the steps before them: both "
            "halves are read at every step. Leave it out, or set history='none'."
        )
    solver = method or pick_solver(options.solver, stateful=past.reads_steps, derivatives=derivatives)
    if edit is not None:
        edit.check(solver)
    if guidance.every > 1 and solver.adaptive:
        raise InputError(f"guidance_every={guidance.every}: solver {solver.name!r} has no steps to count; use 'euler'.")
    return Sampling(
        guide=guide if guidance.enabled else None,
        class_ids=list(class_ids),
        options=options,
        guidance=guidance,
        solver=solver,
        solver_options=settle_options(solver, model, options.solver_options),
        past=past,
        noise=noise,
        callback=callback,
        edit=edit,
    )


def ids_of(class_labels: Tensor, rows: int) -> list[int]:
    """The numbers of class labels, int64 [rows]: one wait for the device. InputError for another type or shape."""
    if rows == 0:
        raise InputError("nothing is asked for: expected noise and labels of B >= 1 images.")
    if class_labels.shape != (rows,) or class_labels.dtype != torch.int64:
        raise InputError(
            f"class_labels must be int64 of shape [{rows}], one for each row of z; "
            f"got {class_labels.dtype} of shape {list(class_labels.shape)}."
        )
    return class_labels.tolist()


def guidance_of(options: SamplingOptions) -> Guidance:
    """The guidance that sampling options ask for, whatever of it their class knows."""
    return Guidance(
        options.guidance_scale,
        options.guidance_interval,
        getattr(options, "guided_channels", None),
        getattr(options, "example_guidance_scale", None),
        options.guidance or "cfg",
        1 if options.guidance_every is None else options.guidance_every,
        options.guidance_model is not None,
    )


def check_guide(model: Any, guide: Any, guidance: Guidance) -> None:
    """InputError unless `guide` can guide `model`: the same kind of images, classes and path, and not for nothing."""
    if guide is None:
        raise InputError("guidance_model names a model; functions that take a model take its guide as guide=.")
    if guidance.scale == 1:
        raise InputError("guidance_model changes nothing at guidance_scale=1; set another scale.")
    if type(guide) is not type(model):
        raise InputError(f"guidance_model is a {type(guide).__name__}, and the model is a {type(model).__name__}.")
    for name in ("sample_size", "in_channels", "num_classes", "path", "patch_size", "average_velocity", "scales"):
        found, expected = (getattr(each.config, name, None) for each in (guide, model))
        if found != expected and (name != "patch_size" or hasattr(model, "scales")):
            raise InputError(f"guidance_model has {name}={found}, and the model has {expected}; they must agree.")


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


def predicts_averages(model: Any) -> bool:
    """Whether the model was trained on average velocities, by which a call crosses a whole interval of time."""
    return bool(getattr(model.config, "average_velocity", False))


def sampling_defaults(model: Any) -> dict[str, Any]:
    """The sampling options by default: those of the model's family, few calls where its calls cross whole intervals."""
    return {**family_of(model).sampling, **(AVERAGE_SAMPLING if predicts_averages(model) else {})}


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
