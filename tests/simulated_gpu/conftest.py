"""The simulated GPU, where there is no real one."""

from collections.abc import Iterator

import pytest
import torch

from tests.simulated_gpu.device import SimulatedGpu


@pytest.fixture
def gpu(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedGpu]:
    """All of the test runs on it."""
    if torch.cuda.is_available():
        pytest.skip("this machine has a GPU, which the simulated one would hide")
    # A build for CUDA without a driver: the optimisers of torch 2.6 ask it for graphs all the same.
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    with SimulatedGpu() as simulated:
        yield simulated
