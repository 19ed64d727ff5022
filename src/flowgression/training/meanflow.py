"""`objective: meanflow`: training on average velocities, so that a model draws in one or two calls (`flow.average`).

Of a batch the first rows learn averages over intervals (t, r), the rest the velocity itself, r = t. Guidance is folded
into what is learned (2505.13447, equation 20, with omega = 1): the target v + (1 - 1/s) (u(c) - u(null)) has its fixed
point at guidance s, and sampling then needs no second half. The derivative is taken along the model's own velocity
(2512.02012), which has less noise than that of one pair of noise and data.

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
from flowgression.training.config import MeanFlowConfig
from flowgression.training.objectives import ObjectiveOutput, drop_labels
from flowgression.training.randomness import StepRandomness

AverageCall = Callable[[Tensor, Tensor, Tensor, Tensor, Any], tuple[Tensor, Any]]
"""call(x [B, C, H, W], t [B], r [B], class_labels [B], state) -> (u like x, state): a model on one image a row."""


class Rows(NamedTuple):
    """Sequences that learn the same: x, v [B, S, C, H, W]; t, r [B, S]; class_labels [B, S]."""

    x: Tensor
    v: Tensor
    t: Tensor
    r: Tensor
    class_labels: Tensor


def mean_flow(
    call: AverageCall,
    model: Any,
    images: Tensor,
    class_labels: Tensor,
    random: StepRandomness,
    settings: MeanFlowConfig,
) -> ObjectiveOutput:
    """The loss of a batch: images [B, S, C, H, W], of which each may read those before it, or [B, C, H, W]."""
    if settings.guidance_scale != 1 and model.config.class_dropout_prob == 0:
        raise InputError(
            f"meanflow.guidance_scale={settings.guidance_scale:g} needs a null label; "
            "set model.args.class_dropout_prob above 0, or leave guidance out"
        )
    sequences = images if images.ndim == 5 else images.unsqueeze(1)
    shape = sequences.shape[:2]
    path = get_path(model.config.path)
    t, other = random.sequence_times(shape) * path.last_time, random.times(shape) * path.last_time
    noised = noise_at(sequences, random.normal(sequences.shape), t, path=path)
    labels = drop_labels(model, class_labels, random)
    labels = labels if labels.ndim == 2 else labels[:, None].expand(shape)
    rows = Rows(noised.x_t, noised.target, t, torch.maximum(t, other), labels)
    averaged = math.ceil(settings.interval_share * len(t))
    errors, names = [], ("average_error", "velocity_error")
    for part, spans in ((slice(averaged), True), (slice(averaged, None), False)):
        of_part = Rows(*(each[part] for each in rows))
        if len(of_part.t):
            errors.append(_errors(call, of_part, model.config.num_classes, settings, spans=spans))
    metrics = (
        {name: error.detach().mean() for name, error in zip(names, errors, strict=False)} if len(errors) > 1 else {}
    )
    return ObjectiveOutput(adaptive_loss(torch.cat(errors)), metrics)


def _errors(call: AverageCall, rows: Rows, null_label: int, settings: MeanFlowConfig, *, spans: bool) -> Tensor:
    """Squared errors [B S], image after image, each with the states that those before it left."""
    states: tuple[Any, Any] = (None, None)
    errors = []
    for x, v, t, r, labels in zip(*(each.unbind(1) for each in rows), strict=True):
        prediction, target, states = _one_image(call, x, v, t, r, labels, states, null_label, settings, spans)
        errors.append(flow_matching_loss(prediction, target, per_image=True))
    return torch.cat(errors)


def _one_image(
    call: AverageCall,
    x: Tensor,
    v: Tensor,
    t: Tensor,
    r: Tensor,
    labels: Tensor,
    states: tuple[Any, Any],
    null_label: int,
    settings: MeanFlowConfig,
    spans: bool,
) -> tuple[Tensor, Tensor, tuple[Any, Any]]:
    """u over t to r, or with `spans` False the velocity at t; what it is to be; the states of class and null half."""
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
    averaged = along_path(lambda x, t: call(x, t, r, labels, state), x, t, own.to(x.dtype))
    return averaged.average, average_target(guided(own), averaged.derivative, t, r), (averaged.state, null_state)
