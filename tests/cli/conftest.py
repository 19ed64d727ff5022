"""A small model folder with class names, and a way to run commands in this process."""

from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import pytest
import torch

from flowgression.cli.main import main


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # --help of argparse
            status = int(stop.code or 0)
        return Result(status, *capsys.readouterr())

    return run


@pytest.fixture(scope="session")
def model_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    from flowgression.models.arflow.model import ARFlow
    from flowgression.sampling.loading import make_pipeline

    model = ARFlow(sample_size=8, patch_size=4, in_channels=1, hidden_size=16, depth=1, num_heads=2, num_classes=4)
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    folder = tmp_path_factory.mktemp("models") / "tiny"
    make_pipeline(model, id2label={0: "zero", 1: "one", 2: "two", 3: "three, trio"}).save_pretrained(folder)
    return folder
