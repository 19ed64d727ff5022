"""tools/builtin_model.py: a run's model as a built-in one."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL

from flowgression import InputError, SiT, load_pipeline, make_pipeline
from flowgression.autoencoders.loading import RUN_AUTOENCODER, load_vae
from tests.scripts import load_script


@pytest.fixture
def sit_folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    model = SiT(sample_size=4, in_channels=1, patch_size=2, hidden_size=8, depth=1, num_heads=1, num_classes=3)
    make_pipeline(model).save_pretrained(tmp_path / "run")
    return tmp_path / "run"


def test_a_built_in_model_is_the_run_in_half_precision(
    tmp_path: Path, sit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_script("tools/builtin_model.py", monkeypatch)
    place = tool.pack(str(sit_folder), "mine", tmp_path)
    assert sorted(str(file.relative_to(place)) for file in place.rglob("*") if file.is_file()) == [
        "model_index.json", "transformer/config.json", "transformer/diffusion_pytorch_model.safetensors",
    ]  # fmt: skip
    assert "_name_or_path" not in json.loads((place / "transformer" / "config.json").read_text())
    before, after = load_pipeline(str(sit_folder)), load_pipeline(str(place))
    for a, b in zip(before.transformer.parameters(), after.transformer.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)
    images = after([0], num_inference_steps=1, output_type="np").images
    assert np.isfinite(images).all()


def test_a_built_in_autoencoder_is_that_of_the_run_in_half_precision(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    torch.manual_seed(0)
    vae: Any = AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.7, shift_factor=0.1)
    vae.save_pretrained(tmp_path / "run" / RUN_AUTOENCODER)
    tool = load_script("tools/builtin_model.py", monkeypatch)
    place = tool.pack_autoencoder(str(tmp_path / "run"), "mine", tmp_path)
    assert {file.name for file in place.iterdir()} == {"config.json", "diffusion_pytorch_model.safetensors"}
    assert "_name_or_path" not in json.loads((place / "config.json").read_text())
    after: Any = load_vae(str(place))
    assert (after.config.scaling_factor, after.config.shift_factor) == (0.7, 0.1)
    for a, b in zip(vae.parameters(), after.parameters(), strict=True):
        assert torch.equal(a.half().float(), b)


def test_another_number_of_classes_is_refused(
    tmp_path: Path, sit_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tool = load_script("tools/builtin_model.py", monkeypatch)
    with pytest.raises(InputError, match="classes, arflow-glyphs 70; take another name"):
        tool.pack(str(sit_folder), "arflow-glyphs", tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["run"]
