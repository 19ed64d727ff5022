"""`objective: meanflow`: training on average velocities, so that a model draws in one or two calls (`flow.average`).

Of a batch the first rows learn averages over intervals (t, r), the rest the velocity itself, r = t. Guidance is folded
into what is learned (2505.13447, equation 20, with omega = 1): the target v + (1 - 1/s) (u(c) - u(null)) has its fixed
point at guidance s, and sampling then needs no second half. The derivative is taken along the model's own velocity
(2512.02012), which has less noise than that of one pair of noise and data.

With a teacher, a trained model of velocities, v is its guided velocity instead of that of one pair: without the noise
of pairs, and with the same fixed point where the teacher is right.

B: sequences (or images), S: images of a sequence, C H W: channels and size.
"""

import math
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.average import adaptive_loss, along_path, average_target
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.training.objectives import ObjectiveOutput, drop_labels
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import MeanFlowConfig

AverageCall = Callable[[Tensor, Tensor, Tensor, Tensor, Any], tuple[Tensor, Any]]
"""call(x [B, C, H, W], t [B], r [B], class_labels [B], state) -> (u like x, state): a model on one image a row."""


class Rows(NamedTuple):
    """Sequences that learn the same: x, v [B, S, C, H, W]; t, r [B, S]; class_labels [B, S]."""

    x: Tensor
    v: Tensor
    t: Tensor
    r: Tensor
    class_labels: Tensor


class Teacher(NamedTuple):
    """A trained model of velocities as `AverageCall`, and the states that its class and null half left."""

    call: AverageCall
    states: tuple[Any, Any] = (None, None)


def mean_flow(
    make_call: Callable[[Any], AverageCall],
    model: Any,
    images: Tensor,
    class_labels: Tensor,
    random: StepRandomness,
    settings: MeanFlowConfig,
    teacher: Any = None,
) -> ObjectiveOutput:
    """The loss of a batch: images [B, S, C, H, W], of which each may read those before it, or [B, C, H, W].

    make_call: a model -> how it is called. teacher: a model of velocities, like `model`; None: pairs of noise and data.
    """
    if settings.guidance_scale != 1 and model.config.class_dropout_prob == 0:
        raise InputError(
            f"meanflow.guidance_scale={settings.guidance_scale:g} needs a null label; "
            "set model.args.class_dropout_prob above 0, or leave guidance out"
        )
    sequences = images if images.ndim == 5 else images.unsqueeze(1)
    shape = sequences.shape[:2]
    path = get_path(model.config.path)
    t, r = interval_times(random, random.sequence_times(shape), settings, path.last_time)
    noised = noise_at(sequences, random.normal(sequences.shape), t, path=path)
    labels = drop_labels(model, class_labels, random)
    labels = labels if labels.ndim == 2 else labels[:, None].expand(shape)
    rows = Rows(noised.x_t, noised.target, t, r, labels)
    taught = None if teacher is None else Teacher(make_call(teacher))
    averaged = math.ceil(settings.interval_share * len(t))
    errors, names = [], ("average_error", "velocity_error")
    for part, spans in ((slice(averaged), True), (slice(averaged, None), False)):
        of_part = Rows(*(each[part] for each in rows))
        if len(of_part.t):
            null_label = model.config.num_classes
            errors.append(_errors(make_call(model), of_part, null_label, settings, spans=spans, teacher=taught))
    metrics = (
        {name: error.detach().mean() for name, error in zip(names, errors, strict=False)} if len(errors) > 1 else {}
    )
    return ObjectiveOutput(adaptive_loss(torch.cat(errors)), metrics)


def interval_times(
    random: StepRandomness, quantiles: Tensor, settings: MeanFlowConfig, last_time: float
) -> tuple[Tensor, Tensor]:
    """Intervals (t, r) that begin at times [B, S] in [0, 1]: r is another time if that is later, or the end of all."""
    t = quantiles * last_time
    r = torch.maximum(t, random.times(t.shape) * last_time)
    if settings.end_share:
        r = r.masked_fill(random.uniform(t.shape) < settings.end_share, last_time)
    return t, r


def _errors(
    call: AverageCall,
    rows: Rows,
    null_label: int,
    settings: MeanFlowConfig,
    *,
    spans: bool,
    teacher: Teacher | None = None,
) -> Tensor:
    """Squared errors [B S], image after image, each with the states that those before it left."""
    states: tuple[Any, Any] = (None, None)
    errors = []
    for image in zip(*(each.unbind(1) for each in rows), strict=True):
        row = Rows(*image)
        if teacher is None:
            prediction, target, states = _one_image(call, row, states, null_label, settings, spans)
        else:
            v, taught = guided_velocity(teacher, row, null_label, settings.guidance_scale)
            teacher = Teacher(teacher.call, taught)
            prediction, target, state = _along(call, row, states[0], v, v, spans)
            states = (state, None)
        errors.append(flow_matching_loss(prediction, target, per_image=True))
    return torch.cat(errors)


@torch.no_grad()
def guided_velocity(teacher: Teacher, row: Rows, null_label: int, scale: float) -> tuple[Tensor, tuple[Any, Any]]:
    """v_null + s (v - v_null) of a teacher, v where there is no label; and its states."""
    v, state = teacher.call(row.x, row.t, row.t, row.class_labels, teacher.states[0])
    if scale == 1:
        return v, (state, None)
    labels = torch.full_like(row.class_labels, null_label)
    null, null_state = teacher.call(row.x, row.t, row.t, labels, teacher.states[1])
    labelled = (row.class_labels != null_label).reshape(-1, 1, 1, 1)
    return torch.where(labelled, null + scale * (v - null), v), (state, null_state)


def _one_image(
    call: AverageCall,
    row: Rows,
    states: tuple[Any, Any],
    null_label: int,
    settings: MeanFlowConfig,
    spans: bool,
) -> tuple[Tensor, Tensor, tuple[Any, Any]]:
    """u over t to r, or with `spans` False the velocity at t; what it is to be; the states of class and null half."""
    x, v, t, labels = row.x, row.v, row.t, row.class_labels
    state, null_state = states
    share = 1 - 1 / settings.guidance_scale
    null: Any = None
    if share:
        with torch.no_grad():
            null, null_state = call(x, t, t, torch.full_like(labels, null_label), null_state)

    def guided(own: Tensor) -> Tensor:
        """v, moved by guidance where there is a label; own: the model's velocity."""
        if not share:
            return v
        labelled = (labels != null_label).reshape(-1, 1, 1, 1)
        return torch.where(labelled, v + share * (own - null), v)

    if not spans:
        prediction, state = call(x, t, t, labels, state)
        return prediction, guided(prediction.detach()), (state, null_state)
    with torch.no_grad():
        own, _ = call(x, t, t, labels, state)
    prediction, target, state = _along(call, row, state, guided(own), own, spans)
    return prediction, target, (state, null_state)


def _along(
    call: AverageCall, row: Rows, state: Any, v: Tensor, tangent: Tensor, spans: bool
) -> tuple[Tensor, Tensor, Any]:
    """u over t to r, what velocities v make of it, and the state; `tangent`: along which the path is followed."""
    if not spans:
        prediction, state = call(row.x, row.t, row.t, row.class_labels, state)
        return prediction, v, state
    averaged = along_path(
        lambda x, t: call(x, t, row.r, row.class_labels, state), row.x, row.t, tangent.to(row.x.dtype)
    )
    return averaged.average, average_target(v, averaged.derivative, row.t, row.r), averaged.state
