"""`objective: meanflow` of FlowAR: the flow head learns velocities averaged over intervals of time, at every scale.

The transformer runs once, on the true coarser maps; what is differentiated along the path is the head alone. Everything
else is as in `training.meanflow`, whose papers this follows.

B: images, K: scales with sides s_k, T: tokens of all scales (sum of s_k^2), C: channels of a token.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.flowar.scales import per_token
from flowgression.families.flowar.schedules import guidance_ramp
from flowgression.flow.average import adaptive_loss, along_path, average_target
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.training.meanflow import interval_times
from flowgression.training.objectives import ObjectiveOutput, drop_labels
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import MeanFlowConfig


class Rows(NamedTuple):
    """Maps that learn the same: x, v [B, T, C]; t, r [B, K]; semantics [B, T, D].

    v is what is learned at a time, of a teacher or of pairs; of pairs with guidance `null` has the semantics without a
    label, else None. labelled: [B], whose label was kept.
    """

    x: Tensor
    v: Tensor
    t: Tensor
    r: Tensor
    semantics: Tensor
    null: Tensor | None
    labelled: Tensor

    def part(self, here: slice) -> "Rows":
        """Some of the rows."""
        null = None if self.null is None else self.null[here]
        x, v, t, r = (each[here] for each in (self.x, self.v, self.t, self.r))
        return Rows(x, v, t, r, self.semantics[here], null, self.labelled[here])


def flowar_average_objective(
    model: Any,
    images: Tensor,
    class_labels: Tensor,
    random: StepRandomness,
    settings: MeanFlowConfig,
    teacher: Any = None,
) -> ObjectiveOutput:
    """Average velocities (MeanFlow, arXiv 2505.13447) on every scale, each read after the true coarser ones.

    Guidance rises with the scales as in sampling: 1 at the first, `settings.guidance_scale` at the last.
    """
    if images.ndim != 4:
        raise InputError("FlowAR is trained on single images: set sequence_length=1")
    if settings.guidance_scale != 1 and model.config.class_dropout_prob == 0:
        raise InputError(
            f"meanflow.guidance_scale={settings.guidance_scale:g} needs a null label; "
            "set model.args.class_dropout_prob above 0, or leave guidance out"
        )
    path, lengths = get_path(model.config.path), [side**2 for side in model.scales]
    times = random.times((len(images), len(lengths)))
    t, r = interval_times(random, times, settings, path.last_time)
    noise = random.normal((len(images), sum(lengths), model.flow_head.token_channels))
    class_labels = drop_labels(model, class_labels, random)
    output = model(images, class_labels)
    semantics, data = torch.cat(output.semantics, dim=1), torch.cat(output.targets, dim=1)
    x = path.interpolate(data, noise, per_token(t, lengths))
    labelled = class_labels != model.config.num_classes
    guidance = torch.tensor(guidance_ramp(settings.guidance_scale, len(lengths)), device=x.device)
    guidance = per_token(guidance[None], lengths)[..., None]  # [1, T, 1]
    null = None
    if teacher is None:
        v = path.target_velocity(data, noise, per_token(t, lengths))
        if settings.guidance_scale != 1:
            null = _without_labels(model, images)
    else:
        v = taught_velocity(teacher, images, class_labels, x, t, guidance)
    rows = Rows(x, v, t, r, semantics, null, labelled)
    averaged = math.ceil(settings.interval_share * len(t))
    errors = []
    for part, spans in ((slice(averaged), True), (slice(averaged, None), False)):
        of_part = rows.part(part)
        if len(of_part.t):
            prediction, target = _prediction(model, of_part, lengths, guidance, spans=spans, taught=teacher is not None)
            errors.append(flow_matching_loss(prediction, target, per_image=True, image_dims=1))
    losses = torch.stack([each.mean(1) for each in torch.cat(errors).split(lengths, dim=1)], dim=1)  # [B, K]
    weight = losses.new_tensor(lengths) / lengths[-1]  # s_k^2 / s_K^2, as in flow matching
    loss = sum(share * adaptive_loss(each) for share, each in zip(weight, losses.unbind(1), strict=True))
    means = losses.detach().mean(0)
    return ObjectiveOutput(loss, {f"loss_scale_{s}": mean for s, mean in zip(model.scales, means, strict=True)})


@torch.no_grad()
def taught_velocity(
    teacher: Any, images: Tensor, class_labels: Tensor, x: Tensor, t: Tensor, guidance: Tensor
) -> Tensor:
    """v_null + s (v - v_null) of a FlowAR of velocities at x [B, T, C] and t [B, K], v where there is no label.

    guidance: s of every token, [1, T, 1].
    """
    head, scales = teacher.flow_head, teacher.scales
    v = head(x, t, torch.cat(teacher(images, class_labels).semantics, dim=1), sides=scales)
    if bool((guidance == 1).all()):
        return v
    null = head(x, t, _without_labels(teacher, images), sides=scales)
    labelled = (class_labels != teacher.config.num_classes)[:, None, None]
    return torch.where(labelled, null + guidance * (v - null), v)


@torch.no_grad()
def _without_labels(model: Any, images: Tensor) -> Tensor:
    """The semantics [B, T, D] of images of no class."""
    labels = torch.full((len(images),), model.config.num_classes, device=images.device)
    return torch.cat(model(images, labels).semantics, dim=1)


def _prediction(
    model: Any, rows: Rows, lengths: Sequence[int], guidance: Tensor, *, spans: bool, taught: bool
) -> tuple[Tensor, Tensor]:
    """u over t to r, or with `spans` False the velocity at t, and what it is to be, [B, T, C]."""

    def call(x: Tensor, t: Tensor, r: Tensor | None, semantics: Tensor) -> Tensor:
        return model.flow_head(x, t, semantics, sides=model.scales, r=r)

    def learned(own: Tensor) -> Tensor:
        """What is learned at t, with guidance where there is a label; own: the model's velocity."""
        if rows.null is None:
            return rows.v
        with torch.no_grad():
            moved = (1 - 1 / guidance) * (own - call(rows.x, rows.t, None, rows.null))
        return rows.v + moved * rows.labelled[:, None, None]

    if not spans:
        prediction = call(rows.x, rows.t, None, rows.semantics)
        return prediction, learned(prediction.detach())
    own = rows.v
    if not taught:
        with torch.no_grad():
            own = call(rows.x, rows.t, None, rows.semantics)
    averaged = along_path(lambda x, t: (call(x, t, rows.r, rows.semantics), None), rows.x, rows.t, own.to(rows.x.dtype))
    ends = per_token(torch.stack([rows.t, rows.r], dim=-1), lengths)
    return averaged.average, average_target(learned(own), averaged.derivative, ends[..., 0], ends[..., 1])
