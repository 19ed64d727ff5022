"""All models trained and sampled on the simulated GPU, by the code that real training and sampling run."""

from pathlib import Path

import pytest

from tests.simulated_gpu.cases import MODELS
from tests.simulated_gpu.checks import check_sampling, check_training
from tests.simulated_gpu.device import SimulatedGpu


@pytest.mark.parametrize("name", MODELS)
def test_training(gpu: SimulatedGpu, name: str, tmp_path: Path) -> None:
    check_training(gpu, name, tmp_path)


@pytest.mark.parametrize("name", MODELS)
def test_sampling(gpu: SimulatedGpu, name: str) -> None:
    check_sampling(gpu, name)


@pytest.mark.parametrize(
    ("name", "solver"), [("arflow", "heun"), ("arflow", "sde"), ("sit", "sde"), ("flowar", "heun")]
)
def test_other_solvers(gpu: SimulatedGpu, name: str, solver: str) -> None:
    check_sampling(gpu, name, solver)
