"""What ARFlow is trained on. Letters: B sequences, S images in a sequence, C H W channels and size."""

from typing import Any

import torch
from torch import Tensor

from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.training.config import MeanFlowConfig
from flowgression.training.meanflow import mean_flow
from flowgression.training.objectives import ObjectiveOutput, data_weight, drop_labels
from flowgression.training.randomness import StepRandomness


def arflow_average_objective(
    model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness, settings: MeanFlowConfig
) -> ObjectiveOutput:
    """Average velocities (MeanFlow, arXiv 2505.13447) over sequences of one class.

    The images are read one by one, each with the state that those before it left: what an image sees stays as it is
    while its own average is differentiated along its path.
    """

    def call(x: Tensor, t: Tensor, r: Tensor, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
        output = model(x[:, None], t[:, None], labels, state, r=r[:, None])
        return output.velocity[:, 0], output.state

    return mean_flow(call, model, images, class_labels, random, settings)


def arflow_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    """Flow matching over sequences of one class, noisier images first (ARFlow, arXiv 2501.16085).

    `random` knows other orders of noise and which images have none; these are read, and the loss is the mean over the
    others. The labels [B, S] of other sequences than those of one class are each image's own.
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
    velocity = model(x_t, noised.t.masked_fill(clean.mask, 1.0), class_labels, return_state=False).velocity
    losses = flow_matching_loss(velocity, noised.target, weight=weight, per_image=True)
    return ObjectiveOutput(losses.masked_fill(clean.mask, 0.0).sum() / clean.noisy, {})
