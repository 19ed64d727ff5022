"""What ARFlow is trained on. Letters: B sequences, S images in a sequence, C H W channels and size."""

from typing import Any

import torch
from torch import Tensor
from torch.utils._pytree import tree_map_only

from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.sampling.request import predicts_averages
from flowgression.training.meanflow import AverageCall, mean_flow
from flowgression.training.objectives import ObjectiveOutput, data_weight, drop_labels
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import MeanFlowConfig


def arflow_average_objective(
    model: Any,
    images: Tensor,
    class_labels: Tensor,
    random: StepRandomness,
    settings: MeanFlowConfig,
    teacher: Any = None,
) -> ObjectiveOutput:
    """Average velocities (MeanFlow, arXiv 2505.13447) over sequences of one class.

    The images are read one by one, each with the state that those before it left: what an image sees stays as it is
    while its own average is differentiated along its path.
    """

    def make_call(network: Any) -> AverageCall:
        def call(x: Tensor, t: Tensor, r: Tensor, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
            ends = r[:, None] if predicts_averages(network) else None
            output = network(x[:, None], t[:, None], labels, state, r=ends)
            return output.velocity[:, 0], output.state

        return call

    return mean_flow(make_call, model, images, class_labels, random, settings, teacher)


def arflow_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    """Flow matching over sequences of one class, noisier images first (ARFlow, arXiv 2501.16085).

    `random` knows other orders of noise and which images have none; these are read, and the loss is the mean over the
    others; with memory "clean" these read the clean ones alone. The labels [B, S] of other sequences than those of one
    class are each image's own.
    """
    sequences = images if images.ndim == 5 else images.unsqueeze(1)
    path = get_path(model.config.path)
    times = random.sequence_times(sequences.shape[:2]) * path.last_time
    noised = noise_at(sequences, random.normal(sequences.shape), times, path=path)
    class_labels = drop_labels(model, class_labels, random)
    weight, clean = data_weight(model, noised.t, path), random.clean_images(sequences.shape[:2])
    if clean is None:
        velocity = model(noised.x_t, noised.t, class_labels, return_state=False).velocity
        return ObjectiveOutput(flow_matching_loss(velocity, noised.target, weight=weight), {})
    x_t = torch.where(clean.mask[..., None, None, None], sequences, noised.x_t)
    t = noised.t.masked_fill(clean.mask, 1.0)
    if random.memory == "clean":
        velocity = _read_apart(model, x_t, t, class_labels, int(clean.mask[0].sum()))
    else:
        velocity = model(x_t, t, class_labels, return_state=False).velocity
    losses = flow_matching_loss(velocity, noised.target, weight=weight, per_image=True)
    return ObjectiveOutput(losses.masked_fill(clean.mask, 0.0).sum() / clean.noisy, {})


def _read_apart(model: Any, x: Tensor, t: Tensor, class_labels: Tensor, count: int) -> Tensor:
    """Velocities [B, S, C, H, W] of images that read the first `count` of their sequence alone; 0 for these."""
    sequences, images = x.shape[:2]
    labels = class_labels if class_labels.ndim == 2 else class_labels[:, None].expand(sequences, images)
    state = None
    if count:
        left = model(x[:, :count], t[:, :count], labels[:, :count]).state
        state = tree_map_only(Tensor, lambda part: part.repeat_interleave(images - count, dim=0), left)
    apart = (part[:, count:].flatten(0, 1).unsqueeze(1) for part in (x, t, labels))
    velocity = model(*apart, state, return_state=False).velocity.unflatten(0, (sequences, images - count)).squeeze(2)
    return torch.cat([torch.zeros_like(x[:, :count]), velocity], dim=1)
