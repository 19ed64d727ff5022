"""What ARFlow is trained on. Letters: B sequences, S images in a sequence, C H W channels and size."""

from typing import Any

from torch import Tensor

from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.training.objectives import ObjectiveOutput, data_weight, drop_labels
from flowgression.training.randomness import StepRandomness


def arflow_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    """Flow matching over sequences of one class, noisier images first (ARFlow, arXiv 2501.16085).

    `random` knows other orders of noise, and the labels [B, S] of other sequences are each image's own.
    """
    sequences = images if images.ndim == 5 else images.unsqueeze(1)
    path = get_path(model.config.path)
    times = random.sequence_times(sequences.shape[:2]) * path.last_time
    noised = noise_at(sequences, random.normal(sequences.shape), times, path=path)
    class_labels = drop_labels(model, class_labels, random)
    velocity = model(noised.x_t, noised.t, class_labels, return_state=False).velocity
    weight = data_weight(model, noised.t, path)
    return ObjectiveOutput(flow_matching_loss(velocity, noised.target, weight=weight), {})
