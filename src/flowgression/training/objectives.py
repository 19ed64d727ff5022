"""What a model is trained on: from clean images to a loss. Each family has an objective of its own.

Letters: B sequences (or images) of this process, S images in a sequence, C H W channels and size.
"""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowgression.data.augment import augment
from flowgression.flow.paths import ProbabilityPath
from flowgression.registry import find_family
from flowgression.training.config import TrainConfig
from flowgression.training.randomness import StepRandomness

FULL_WEIGHT_SIGMA = 0.05  # see `data_weight`


class ObjectiveOutput(NamedTuple):
    """The loss of a batch (0-dim, float32) and further numbers worth logging (0-dim each, detached)."""

    loss: Tensor
    metrics: dict[str, Tensor]


Objective = Callable[[nn.Module, Tensor, Tensor, StepRandomness], ObjectiveOutput]
"""(model, images, class_labels, random) -> ObjectiveOutput.

`images` are float32 in [-1, 1] (or latents): [B, S, C, H, W] with sequence_length S > 1, else [B, C, H, W].
`class_labels` are [B], or [B, S] for sequences of mixed classes.
"""


def objective_of(config: TrainConfig, teacher: nn.Module | None = None) -> Objective:
    """What the run's model is trained on; teacher: whose velocities `objective: meanflow` takes."""
    family = find_family(config.model.family)
    if config.objective == "velocity":
        return family.objective_function
    return partial(family.average_objective_function, settings=config.meanflow, teacher=teacher)


def drop_labels(model: Any, class_labels: Tensor, random: StepRandomness) -> Tensor:
    """Replace labels by the null class, each with the model's `class_dropout_prob`; those of a sequence together."""
    dropped = random.uniform(class_labels.shape[:1]) < model.config.class_dropout_prob
    if class_labels.ndim == 2:
        dropped = dropped[:, None]
    return class_labels.masked_fill(dropped, model.config.num_classes)


def data_weight(model: Any, t: Tensor, path: ProbabilityPath) -> Tensor | None:
    """What the loss of each image is multiplied by, of t's shape; None: 1.

    A model that predicts images has a velocity whose error is the image's over sigma (on the linear path 1 - t), which
    has no bound near the data. There it counts as if sigma were 0.05 ("Back to Basics", arXiv 2511.13720, its t_eps).
    """
    if getattr(model.config, "prediction_type", "velocity") != "sample":
        return None
    return (path.coefficients(t).sigma / FULL_WEIGHT_SIGMA).clamp(max=1).square()


class TrainingModule(nn.Module):
    """A model and its objective as one module whose forward gives the loss.

    Data-parallel wrappers and autocast act on `forward`; everything that a step computes has to pass through it.

    Args:
        augment: probability of each operation of `data.augment`, for a model with `augment_dim`.
    """

    def __init__(self, model: nn.Module, objective: Objective, augment: float = 0.0) -> None:
        super().__init__()
        self.model = model
        self.objective = objective
        self.augment = augment

    def forward(self, images: Tensor, class_labels: Tensor, random: StepRandomness) -> ObjectiveOutput:
        model: Any = self.model
        if getattr(model.config, "augment_dim", 0):
            with torch.autocast(images.device.type, enabled=False):
                images, labels = augment(images, self.augment, random.augment_draws(len(images)))
            model = Told(model, labels)
        return self.objective(model, images, class_labels, random)


class Told:
    """A model that hears in every call what was done to its images; in all else it is the model.

    Args:
        labels: [B, augment_dim]. A call of mB rows, m neighbours for each image or sequence, takes each m times.
    """

    def __init__(self, model: Any, labels: Tensor) -> None:
        self._model = model
        self._labels = labels

    def __call__(self, x: Tensor, *args: Any, **keywords: Any) -> Any:
        labels = self._labels.repeat_interleave(len(x) // len(self._labels), dim=0)
        return self._model(x, *args, augment_labels=labels, **keywords)

    def __getattr__(self, name: str) -> Any:
        return getattr(self._model, name)
