"""What each family of models is trained on: from clean images to a loss.

Letters: B sequences (or images) of this process, S images in a sequence, C H W channels and size.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.training.flowar_losses import flowar_losses
from flowgression.training.randomness import StepRandomness


class ObjectiveOutput(NamedTuple):
    """The loss of a batch (0-dim, float32) and further numbers worth logging (0-dim each, detached)."""

    loss: Tensor
    metrics: dict[str, Tensor]


Objective = Callable[[nn.Module, Tensor, Tensor, StepRandomness], ObjectiveOutput]
"""(model, images, class_labels, random) -> ObjectiveOutput.

`images` are float32 in [-1, 1] (or latents): [B, S, C, H, W] with sequence_length S > 1, else [B, C, H, W].
`class_labels` are [B], or [B, S] for sequences of mixed classes.
"""


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
    return ObjectiveOutput(flow_matching_loss(velocity, noised.target), {})


def sit_objective(model: Any, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
    """Flow matching on single images (SiT, arXiv 2401.08740, velocity prediction)."""
    if images.ndim != 4:
        raise InputError("SiT is trained on single images: set sequence_length=1")
    path = get_path(model.config.path)
    times = random.times(images.shape[:1]) * path.last_time
    noised = noise_at(images, random.normal(images.shape), times, path=path)
    class_labels = drop_labels(model, class_labels, random)
    velocity = model(noised.x_t, noised.t, class_labels).velocity
    return ObjectiveOutput(flow_matching_loss(velocity, noised.target), {})


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


def drop_labels(model: Any, class_labels: Tensor, random: StepRandomness) -> Tensor:
    """Replace labels by the null class, each with the model's `class_dropout_prob`; those of a sequence together."""
    dropped = random.uniform(class_labels.shape[:1]) < model.config.class_dropout_prob
    if class_labels.ndim == 2:
        dropped = dropped[:, None]
    return class_labels.masked_fill(dropped, model.config.num_classes)


class TrainingModule(nn.Module):
    """A model and its objective as one module whose forward gives the loss.

    Data-parallel wrappers and autocast act on `forward`; everything that a step computes has to pass through it.
    """

    def __init__(self, model: nn.Module, objective: Objective) -> None:
        super().__init__()
        self.model = model
        self.objective = objective

    def forward(self, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
        return self.objective(self.model, images, class_labels, random)
