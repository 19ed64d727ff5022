"""The random numbers of a training step, as a pure function of (seed, step): nothing to save, nothing to restore."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from flowgression.data.augment import OPERATIONS, Draws
from flowgression.flow.sequence import order_times
from flowgression.training.config import TrainConfig
from flowgression.training.settings import TimesConfig

_UNIFORM = TimesConfig()


class CleanImages(NamedTuple):
    """Images of a part of a step's batch that have no noise.

    mask: bool [B, S]. noisy: 0-dim, how many images of a part have noise, on the average of all parts: by it a part
    divides the sum of its losses, so that the mean over the parts is that over the batch.
    """

    mask: Tensor
    noisy: Tensor


class StepRandomness:
    """Noise, times and label dropout of one training step.

    A step's batch may be cut into equal parts: one for each process, or several for each one that accumulates
    gradients. Numbers are drawn for all parts together and each keeps its own rows: N parts of B rows each train on
    the noise that one batch of N B rows trains on, row by row.

    Args:
        seed: Seed of the run.
        step: Number of optimisation steps done before this one.
        device: Where the numbers are drawn; streams differ from one kind of device to another.
        part: Which part of the batch the numbers are for, from 0.
        num_parts: Into how many parts the batch is cut.
        times: How often training visits each time.
        noise_order: Order of noise along a sequence, one of `flow.sequence.NOISE_ORDERS`.
        clean: Mean share of a sequence's images that have no noise.
        memory: Whether images with noise read all before them ("all") or the clean ones alone ("clean").
    """

    def __init__(
        self,
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        part: int = 0,
        num_parts: int = 1,
        times: TimesConfig = _UNIFORM,
        noise_order: str = "falling",
        clean: float = 0.0,
        memory: str = "all",
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(derived_seed(seed, step))
        self.part = part
        self.num_parts = num_parts
        self._times = times
        self._noise_order = noise_order
        self._clean = clean
        self.memory = memory

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32, of `shape`; dimension 0 is this part of the batch."""
        return self._own_rows(torch.randn, shape)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1), float32, of `shape`; dimension 0 is this part of the batch."""
        return self._own_rows(torch.rand, shape)

    def times(self, shape: Sequence[int]) -> Tensor:
        """Times of the path in [0, 1], float32, of `shape`, as often as the run's configuration visits them."""
        return self.time_at(self.uniform(shape))

    def sequence_times(self, shape: Sequence[int]) -> Tensor:
        """`times` of sequences, [B, S], in the run's order of noise."""
        return order_times(self.times(shape), self._noise_order)

    def clean_images(self, shape: Sequence[int]) -> CleanImages | None:
        """Which images of sequences [B, S] have no noise: the first ones; None where none ever has.

        Every number of them from 0 to twice the mean, but S - 1 at most, is equally likely; with memory "clean" it is
        the same for all sequences.
        """
        count = shape[1]
        most = min(round(2 * self._clean * count), count - 1)
        if most < 1:
            return None
        together = self._draw(torch.rand, shape[:1])
        if self.memory == "clean":
            together = together[:1].expand(together.shape)
        numbers = (together * (most + 1)).floor()
        own = self._rows_of(numbers, shape[0])
        noisy = (count - numbers).sum() / self.num_parts
        return CleanImages(torch.arange(count, device=own.device) < own[:, None], noisy)

    def augment_draws(self, rows: int) -> Draws:
        """What decides the augmentation of so many rows."""
        return Draws(self.uniform((rows, OPERATIONS)), self.uniform((rows, 3)), self.normal((rows, 7)))

    def time_at(self, quantile: Tensor) -> Tensor:
        """The time below which this share in [0, 1] of all times lies; rises with it, so that order is kept."""
        if self._times.name == "uniform":
            return quantile
        return torch.sigmoid(self._times.mean + self._times.std * torch.special.ndtri(quantile))

    def _own_rows(self, draw, shape: Sequence[int]) -> Tensor:  # type: ignore[no-untyped-def]
        return self._rows_of(self._draw(draw, shape), shape[0])

    def _draw(self, draw, shape: Sequence[int]) -> Tensor:  # type: ignore[no-untyped-def]
        """Numbers for all parts of the batch together."""
        rows, *rest = shape
        return draw((rows * self.num_parts, *rest), generator=self.generator, device=self.generator.device)

    def _rows_of(self, together: Tensor, rows: int) -> Tensor:
        return together[rows * self.part : rows * (self.part + 1)]


def step_randomness(
    config: TrainConfig, step: int, device: torch.device | str, part: int, num_parts: int
) -> StepRandomness:
    """The random numbers of a run's step: times, order and clean images as its configuration says."""
    sequence = config.sequence
    return StepRandomness(
        config.seed, step, device, part, num_parts, config.times, sequence.noise, sequence.clean, sequence.memory
    )


def derived_seed(*numbers: int) -> int:
    """One seed of 64 bits out of several numbers; near numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
