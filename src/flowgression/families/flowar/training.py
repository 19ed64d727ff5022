"""What FlowAR is trained on: the flow-matching loss of every scale, in one pass or some images after the others.

B: images, K: scales with sides s_k, T: tokens of all scales (sum of s_k^2), C: channels of a token.
"""

from typing import Any

import torch
from torch import Tensor
from torch.utils.checkpoint import checkpoint

from flowgression.errors import InputError
from flowgression.families.flowar.scales import per_token
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import ProbabilityPath, get_path
from flowgression.training.objectives import ObjectiveOutput, drop_labels
from flowgression.training.randomness import StepRandomness


def flowar_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    """Flow matching on every scale, each read after the true coarser ones (FlowAR, arXiv 2412.15205)."""
    if images.ndim != 4:
        raise InputError("FlowAR is trained on single images: set sequence_length=1")
    path = get_path(model.config.path)
    # Noise levels as FlowAR counts them are uniform in [0, 1); 1 minus one of them is exact in float32.
    times = random.time_at(1 - random.uniform((len(images), len(model.scales)))) * path.last_time
    noise = random.normal((len(images), sum(side**2 for side in model.scales), model.flow_head.token_channels))
    class_labels = drop_labels(model, class_labels, random)
    losses, loss = flowar_losses(model, images, class_labels, times, noise, path)
    means = losses.detach().mean(0)
    return ObjectiveOutput(loss, {f"loss_scale_{s}": mean for s, mean in zip(model.scales, means, strict=True)})


def flowar_losses(
    model: Any, images: Tensor, class_labels: Tensor, t: Tensor, noise: Tensor, path: ProbabilityPath | None = None
) -> tuple[Tensor, Tensor]:
    """The teacher-forced losses of FlowAR (arXiv 2412.15205, equations 5 to 7) for given times and noise.

    x_t and its derivatives by t are those of the path; on the linear one x_t = t x + (1 - t) e with the target x - e.
    Each of the model's flow heads learns one derivative, in their order; their losses are added. The mean squared error
    of scale k counts s_k^2 / s_K^2.

    With `model.head_chunks` > 1 the heads and their losses are computed for so many groups of images one after the
    other. A group keeps its inputs only; in the backward pass its heads run again, all but the last group's. No image
    enters another's result, so that losses and gradients are the same up to floating-point error.

    Args:
        model: a FlowAR.
        images: [B, C', H, H] in [-1, 1], or latents.
        class_labels: [B], the null label where the label is dropped.
        t: [B, K] in [0, 1], one time per image and scale, 0 noise, 1 data; noise: [B, T, C], the noise e of all scales.
        path: None takes the model's.

    Returns:
        The losses per image and scale [B, K] without their weights, and the loss (0-dim). Both float32.
    """
    path = path or get_path(model.config.path)
    out = model(images, class_labels)
    lengths = [target.shape[1] for target in out.targets]
    data, semantics = torch.cat(out.targets, dim=1), torch.cat(out.semantics, dim=1)
    times = per_token(t, lengths)
    x_t = path.interpolate(data, noise, times)
    targets = path.target_derivatives(data, noise, times, len(model.flow_heads))
    groups = list(zip(*(each.chunk(model.head_chunks) for each in (x_t, t, semantics, *targets)), strict=True))
    again = groups[:-1] if torch.is_grad_enabled() else []  # the backward pass begins with the last: nothing to free
    chunks = [
        checkpoint(_head_losses, model, *group, use_reentrant=False, preserve_rng_state=False)  # heads draw nothing
        for group in again
    ]
    chunks += [_head_losses(model, *group) for group in groups[len(again) :]]
    per_token_loss = torch.cat(chunks)
    losses = torch.stack([each.mean(1) for each in per_token_loss.split(lengths, dim=1)], dim=1)
    # The weight s_k^2 / s_K^2 times a mean over s_k^2 tokens: every token counts 1 / s_K^2, whatever its scale.
    return losses, per_token_loss.mean() * (sum(lengths) / lengths[-1])


def _head_losses(model: Any, x_t: Tensor, t: Tensor, semantics: Tensor, *targets: Tensor) -> Tensor:
    """The losses of all flow heads together, [B, T]; targets: those of each head, [B, T, C]."""
    per_head = [
        flow_matching_loss(head(x_t, t, semantics, sides=model.scales), target, per_image=True, image_dims=1)
        for head, target in zip(model.flow_heads, targets, strict=True)
    ]
    return torch.stack(per_head).sum(0)
