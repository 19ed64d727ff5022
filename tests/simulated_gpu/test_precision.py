"""Half precision on CUDA, by torch's own rules of autocast: what must stay float32 does."""

import pytest

from tests.simulated_gpu.cases import MODELS
from tests.simulated_gpu.checks import check_precision
from tests.simulated_gpu.device import SimulatedGpu


@pytest.mark.parametrize("name", MODELS)
def test_residual_stream_states_and_loss_are_float32_under_autocast(gpu: SimulatedGpu, name: str) -> None:
    check_precision(gpu, name)
