"""`flowgression info`: everything that has a name can be described."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgression import load_pipeline
from flowgression.cli.info import describe


@pytest.mark.parametrize(
    ("name", "count"),
    [("arflow:S/2", "34,643,744"), ("arflow:XL/2", "712,445,216"), ("arflow:XL/4", "712,546,688")],
)
def test_published_sizes(name: str, count: str) -> None:
    (description,) = describe(name)
    assert description.rows["parameters"] == count
    assert description.rows["num_classes"] == "1000"


def test_folder(command: Callable[..., Any], model_folder: Path) -> None:
    (description,) = describe(str(model_folder))
    count = sum(parameter.numel() for parameter in load_pipeline(model_folder).transformer.parameters())
    assert description.rows["parameters"] == f"{count:,}"
    assert description.rows["class names"] == "zero, one, two, three"
    assert description.rows["autoencoder"] == "none (pixels)"
    assert description.rows["context"] == "hybrid"
    assert description.rows["sample_size"] == "8"
    (inner,) = describe(str(model_folder / "transformer"))
    assert inner.rows["parameters"] == f"{count:,}"
    shown = command("info", model_folder)
    assert shown.status == 0
    assert f"{count:,}" in shown.out


def test_checkpoints(model_folder: Path, tmp_path: Path) -> None:
    file = model_folder / "transformer" / "diffusion_pytorch_model.safetensors"
    weights = load_pipeline(model_folder).transformer.state_dict()
    torch.save({"ema": weights}, tmp_path / "a.pt")
    for path in (file, tmp_path / "a.pt"):
        (description,) = describe(str(path))
        assert description.rows["parameters"] == f"{sum(value.numel() for value in weights.values()):,}"
        assert description.rows["tensors"] == str(len(weights))


def test_overview_and_family(command: Callable[..., Any]) -> None:
    overview = command("info").out
    assert "arflow" in overview
    assert "sit" in overview
    assert "hidden_size=1152" in command("info", "sit").out


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("arfow:XL/2", "model family 'arfow' is unknown: did you mean 'arflow'"),
        ("arflow:XL/3", "arflow has no preset 'XL/3'"),
        ("nothing-here", "no model 'nothing-here'"),
    ],
)
def test_mistakes(command: Callable[..., Any], name: str, message: str) -> None:
    result = command("info", name)
    assert result.status == 2
    assert message in result.err


def test_damaged_folder(command: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text('{"_class_name": "Other"}')
    assert "holds a Other, which has no transformer" in command("info", tmp_path).err
