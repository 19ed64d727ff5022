"""Names of code in files: nothing is imported because a file says so."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors import safe_open
from safetensors.torch import save_file

from flowgression import InputError
from flowgression.evaluation import load_extractor
from flowgression.study import read_study

CANARY = """from pathlib import Path
Path("executed").touch()
def make():
    Path("executed").touch()
    from torch import nn
    return nn.Flatten()
"""
NAMES = ["canary:make", "pathlib:Path", "flowgression.evaluation.features.mnist:DigitClassifier", "Mnist", "", "a:b:c"]


@pytest.fixture
def canary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The file that is there once the module `canary` of the current folder was imported."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "canary.py").write_text(CANARY)
    return tmp_path / "executed"


@pytest.fixture
def statistics_naming(command: Callable[..., Any], digits: Path, tmp_path: Path) -> Callable[[str], Path]:
    """Statistics of digits whose metadata name another extractor."""
    assert command("reference", digits, "--out", tmp_path / "ref.safetensors").status == 0

    def change(name: str) -> Path:
        with safe_open(tmp_path / "ref.safetensors", "pt") as file:
            metadata, tensors = file.metadata(), {key: file.get_tensor(key) for key in file.keys()}  # noqa: SIM118
        metadata["extractor"] = json.dumps({**json.loads(metadata["extractor"]), "name": name})
        save_file(tensors, tmp_path / "named.safetensors", metadata)
        return tmp_path / "named.safetensors"

    return change


@pytest.mark.parametrize("name", NAMES)
def test_statistics_cannot_name_code(
    command: Callable[..., Any], digits: Path, canary: Path, statistics_naming: Callable[[str], Path], name: str
) -> None:
    result = command("evaluate", "--samples", digits, "--reference", statistics_naming(name))
    assert result.status == 2
    assert f"names the features {name!r}, which are none of mnist, mnist-rgb, pictures-1, inception" in result.err
    assert not canary.exists()


def test_whoever_types_the_name_may(
    command: Callable[..., Any], digits: Path, canary: Path, statistics_naming: Callable[[str], Path]
) -> None:
    """Then it is imported, and seen to be another extractor than that of the statistics."""
    line = ("evaluate", "--samples", digits, "--reference", statistics_naming("canary:make"))
    result = command(*line, "--features", "canary:make")
    assert "features of different extractors cannot be compared" in result.err
    assert canary.exists()
    canary.unlink()
    assert load_extractor("canary:make").info.name == "canary:make"
    assert canary.exists()


@pytest.mark.parametrize("name", NAMES)
def test_a_study_cannot_name_code(command: Callable[..., Any], canary: Path, tmp_path: Path, name: str) -> None:
    study = tmp_path / "study.yaml"
    sit = {"model": {"family": "sit"}, "sequence_length": 1}
    study.write_text(json.dumps({"features": name, "models": {"a": sit}, "out": str(tmp_path / "out")}))
    result = command("study", study, "--report-only")
    assert result.status == 2
    assert f"names the features {name!r}" in result.err
    assert "--import-features" in result.err
    with pytest.raises(InputError, match="names the features"):
        read_study(study)
    assert read_study(study, import_features=True).features == name
    assert not canary.exists()
