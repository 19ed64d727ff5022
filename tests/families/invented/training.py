"""What Drift is trained on."""

from typing import Any

from torch import Tensor

from flowgression.flow import flow_matching_loss, get_path
from flowgression.flow.sequence import noise_at
from flowgression.training.objectives import ObjectiveOutput, drop_labels
from flowgression.training.randomness import StepRandomness


def drift_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    path = get_path(model.config.path)
    noised = noise_at(images, random.normal(images.shape), random.times(images.shape[:1]) * path.last_time, path=path)
    velocity = model(noised.x_t, noised.t, drop_labels(model, class_labels, random)).velocity
    return ObjectiveOutput(flow_matching_loss(velocity, noised.target), {})
