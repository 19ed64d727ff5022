"""The simulated GPU, where there is no real one."""

from collections.abc import Iterator

import pytest
import torch

from tests.simulated_gpu.device import SimulatedGpu


@pytest.fixture
def gpu() -> Iterator[SimulatedGpu]:
    """All of the test runs on it."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which the simulated one would hide")
    with SimulatedGpu() as simulated:
        yield simulated
