"""What SiT is trained on. Letters: B images, C H W channels and size."""

from typing import Any

from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.sampling.request import predicts_averages
from flowgression.training.meanflow import AverageCall, mean_flow
from flowgression.training.objectives import ObjectiveOutput, data_weight, drop_labels
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import MeanFlowConfig


def sit_average_objective(
    model: Any,
    images: Tensor,
    class_labels: Tensor,
    random: StepRandomness,
    settings: MeanFlowConfig,
    teacher: Any = None,
) -> ObjectiveOutput:
    """Average velocities (MeanFlow, arXiv 2505.13447) of single images."""

    def make_call(network: Any) -> AverageCall:
        def call(x: Tensor, t: Tensor, r: Tensor, labels: Tensor, state: Any) -> tuple[Tensor, Any]:
            return network(x, t, labels, r=r if predicts_averages(network) else None).velocity, None

        return call

    return mean_flow(make_call, model, images, class_labels, random, settings, teacher)


def sit_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    """Flow matching on single images (SiT, arXiv 2401.08740, velocity prediction)."""
    if images.ndim != 4:
        raise InputError("SiT is trained on single images: set sequence_length=1")
    path = get_path(model.config.path)
    times = random.times(images.shape[:1]) * path.last_time
    noised = noise_at(images, random.normal(images.shape), times, path=path)
    class_labels = drop_labels(model, class_labels, random)
    velocity = model(noised.x_t, noised.t, class_labels).velocity
    weight = data_weight(model, noised.t, path)
    return ObjectiveOutput(flow_matching_loss(velocity, noised.target, weight=weight), {})
