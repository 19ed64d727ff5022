"""The commands that a run prints can be pasted, also where folders have spaces; of one class several are drawn."""

import shlex
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from flowgression.classes import Classes
from flowgression.cli._labels import ONE_CLASS_IMAGES, image_labels
from flowgression.cli.train import report
from flowgression.training.session import TrainResult


def test_the_command_after_training_can_be_pasted(capsys: pytest.CaptureFixture[str]) -> None:
    run = Path("runs/Holiday photos")
    report(TrainResult(3, run / "checkpoints", run / "pipeline", None), str(run))
    words = shlex.split(capsys.readouterr().out.splitlines()[-1])
    assert words[:2] == ["flowgression", "sample"]
    assert words[words.index("--model") + 1] == str(run / "pipeline")
    assert words[words.index("--out") + 1] == str(run / "samples.png")


def test_a_model_of_one_class_draws_more_than_one_image() -> None:
    pipe: Any = SimpleNamespace(classes=Classes(["photos"]))
    assert image_labels(pipe, None, None) == [0] * ONE_CLASS_IMAGES
    assert image_labels(pipe, None, 2) == [0, 0]
    pipe = SimpleNamespace(classes=Classes(["a", "b", "c"]))
    assert image_labels(pipe, None, None) == [0, 1, 2]
