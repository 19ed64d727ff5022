"""The loss of velocity models on held-out images with fixed noise: by time, by place in the sequence, by company.

Every model is asked about the same images at the same times with the same noise; only what it reads beside an image
differs: the images before it in the sequence. Losses of two models on them differ by far less noise than their FIDs.

Letters: B rows of L images, S images of a sequence of the model, C H W channels and size.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowgression.data import make_loader, make_sampler
from flowgression.data.dataset import LabeledImages
from flowgression.errors import InputError
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.study.config import ValidationConfig
from flowgression.training.randomness import StepRandomness, derived_seed
from flowgression.training.settings import SequenceConfig

ROWS = 20  # that are evaluated at once


class Questions(NamedTuple):
    """Images [n, S, C, H, W] with noise, times [n, S] and labels [n, S], in the order in which a model reads them."""

    images: Tensor
    noise: Tensor
    times: Tensor
    labels: Tensor

    def take(self, rows: Tensor) -> "Questions":
        """Flattened to single images and taken in an order: rows [n, S] -> [n, S, ...]."""
        return Questions(*(each.flatten(0, 1)[rows] for each in self))


class Losses(NamedTuple):
    """Of every image: mean squared error of the velocity, time, and place in its sequence from 0; [N] each."""

    loss: NDArray[np.float64]
    time: NDArray[np.float64]
    place: NDArray[np.int64]

    def summary(self, num_bins: int) -> dict[str, Any]:
        """Means over all, in `num_bins` equal parts of time, and at each place."""
        bins = np.minimum((self.time * num_bins).astype(np.int64), num_bins - 1)
        return {
            "loss": float(self.loss.mean()),
            "by_time": [float(self.loss[bins == index].mean()) for index in range(num_bins)],
            "by_place": [float(self.loss[self.place == index].mean()) for index in range(self.place.max() + 1)],
        }


@torch.inference_mode()
def measure_losses(
    model: Any,
    dataset: LabeledImages,
    config: ValidationConfig,
    sequence_length: int,
    sequence: SequenceConfig,
    *,
    null_label: bool = False,
) -> Losses:
    """Evaluate `model` on rows of L = config.row_length images of one class, cut into sequences of S = sequence_length.

    Args:
        model: a SiT (S = 1) or an ARFlow, on the device to use.
        dataset: held-out images.
        sequence: order of noise and contents. Times, noise and images are the same for all, but that "equal" gives a
            sequence the time of its first image, and "image" its first image. "mixed" shuffles the images of all rows.
        null_label: ask with the null label instead of the images' own.

    Raises:
        InputError: L is no multiple of S.
    """
    check_length(config, sequence_length)
    path, found = get_path(model.config.path), []
    for asked in _questions(dataset, config, path.last_time):
        read = arranged(asked, sequence_length, sequence)
        images, noise, times, labels = (each.to(model.device) for each in read)
        if null_label:
            labels = torch.full_like(labels, model.config.num_classes)
        noised = noise_at(images, noise, times, path=path)
        velocity = _velocity(model, noised.x_t, times, labels, mixed=sequence.contents == "mixed")
        loss = (velocity - noised.target).square().mean((2, 3, 4))
        place = torch.arange(sequence_length).expand(loss.shape)
        found.append((loss.double().cpu().flatten(), times.double().cpu().flatten(), place.flatten()))
    return Losses(*(torch.cat(parts).numpy() for parts in zip(*found, strict=True)))


def check_length(config: ValidationConfig, sequence_length: int) -> None:
    """InputError unless rows of L images make whole sequences."""
    if config.row_length % sequence_length:
        raise InputError(
            f"validation.row_length={config.row_length} must be a multiple of every model's sequence_length; "
            f"{sequence_length} does not divide it"
        )


def arranged(asked: Questions, sequence_length: int, sequence: SequenceConfig) -> Questions:
    """Rows [B, L] as sequences [B L / S, S] in their order of noise."""
    count = asked.times.numel()
    rows = torch.arange(count)
    if sequence.contents == "mixed":
        rows = rows[torch.randperm(count, generator=torch.Generator().manual_seed(0))]
    read = asked.take(rows.view(-1, sequence_length))
    if sequence.contents == "image":
        read = read._replace(images=read.images[:, :1].expand_as(read.images))
    if sequence.noise == "equal":
        return read._replace(times=read.times[:, :1].expand_as(read.times))
    if sequence.noise == "random":
        return read
    order = read.times.argsort(dim=1, descending=sequence.noise == "rising")
    return read.take(order + sequence_length * torch.arange(len(order))[:, None])


def _questions(dataset: LabeledImages, config: ValidationConfig, last_time: float) -> Iterator[Questions]:
    sampler = make_sampler(dataset, ROWS, config.row_length, config.seed)
    batches = iter(make_loader(dataset, sampler, num_workers=0, pin_memory=False))
    for index in range(max(1, config.num_images // (ROWS * config.row_length))):
        batch = next(batches)
        images, labels = batch["images"], batch["class_labels"]
        random = StepRandomness(derived_seed(config.seed, 2) % 2**32, index)
        times = random.uniform(images.shape[:2]) * last_time
        yield Questions(images, random.normal(images.shape), times, labels[:, None].expand(times.shape))


def _velocity(model: Any, x_t: Tensor, times: Tensor, labels: Tensor, *, mixed: bool) -> Tensor:
    if hasattr(model, "new_state"):
        return model(x_t, times, labels if mixed else labels[:, 0], return_state=False).velocity
    return model(x_t.flatten(0, 1), times.flatten(), labels.flatten()).velocity.unflatten(0, times.shape)
