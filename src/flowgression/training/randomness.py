"""The random numbers of a training step, as a pure function of (seed, step): nothing to save, nothing to restore."""

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor


class StepRandomness:
    """Noise, times and label dropout of one training step.

    Numbers are drawn for the batches of all processes together and each process keeps its own rows: N processes
    with a batch of B rows each train on the noise that one process with N B rows trains on.

    Args:
        seed: Seed of the run.
        step: Number of optimisation steps done before this one.
        device: Where the numbers are drawn; streams differ from one kind of device to another.
        process_index: Which of the processes this is.
        num_processes: How many processes share the step.
    """

    def __init__(
        self,
        seed: int,
        step: int,
        device: torch.device | str = "cpu",
        process_index: int = 0,
        num_processes: int = 1,
    ) -> None:
        self.generator = torch.Generator(device).manual_seed(derived_seed(seed, step))
        self.process_index = process_index
        self.num_processes = num_processes

    def normal(self, shape: Sequence[int]) -> Tensor:
        """Standard normal numbers, float32, of `shape`; dimension 0 is the batch of this process."""
        return self._own_rows(torch.randn, shape)

    def uniform(self, shape: Sequence[int]) -> Tensor:
        """Uniform numbers in [0, 1), float32, of `shape`; dimension 0 is the batch of this process."""
        return self._own_rows(torch.rand, shape)

    def _own_rows(self, draw, shape: Sequence[int]) -> Tensor:  # type: ignore[no-untyped-def]
        rows, *rest = shape
        everyone = draw((rows * self.num_processes, *rest), generator=self.generator, device=self.generator.device)
        return everyone[rows * self.process_index : rows * (self.process_index + 1)]


def derived_seed(*numbers: int) -> int:
    """One seed of 64 bits out of several numbers; near numbers give unrelated seeds."""
    return int(np.random.SeedSequence(numbers).generate_state(1, np.uint64)[0])
