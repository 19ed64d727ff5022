"""`flowgression convert`: released weights become a folder that samples."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL

from flowgression.sampling.loading import load_pipeline
from tests.models.golden import Golden


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("released")
    files = {family: folder / f"{family}.pt" for family in ("arflow", "sit")}
    for family, file in files.items():
        torch.save({"ema": Golden(f"{family}_dev").weights(), "args": None}, file)
    return files


@pytest.mark.parametrize("family", ["arflow", "sit"])
def test_converted_model_is_the_released_one(
    command: Callable[..., Any], released: dict[str, Path], tmp_path: Path, family: str
) -> None:
    result = command("convert", released[family], "--family", family, "--out", tmp_path / "model")
    assert (result.status, result.err) == (0, "")
    assert f"wrote {tmp_path / 'model'}" in result.out
    model, golden = load_pipeline(tmp_path / "model").transformer, Golden(f"{family}_dev")
    with torch.no_grad():
        if family == "sit":
            v = model(golden["x"], golden["t"], golden["y"]).velocity
        else:
            t = golden["t"]
            x = t[..., None, None, None] * golden["x1"] + (1 - t[..., None, None, None]) * golden["x0"]
            v = model(x, t, golden["y"]).velocity
    torch.testing.assert_close(v, golden["v"], atol=5e-6, rtol=0)


def test_names_and_autoencoder(command: Callable[..., Any], released: dict[str, Path], tmp_path: Path) -> None:
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "vae")
    (tmp_path / "names.txt").write_text("tench, Tinca tinca\ngoldfish\n")
    (tmp_path / "names.json").write_text(json.dumps({"1": "goldfish"}))
    for names, expected in (
        ("names.txt", {"tench": 0, "Tinca tinca": 0, "goldfish": 1}),
        ("names.json", {"goldfish": 1}),
    ):
        arguments = ["--class-names", tmp_path / names, "--vae", tmp_path / "vae", "--out", tmp_path / "model"]
        assert command("convert", released["sit"], "--family", "sit", "--num-heads", 4, *arguments).status == 0
        pipe = load_pipeline(tmp_path / "model")
        assert pipe.labels == expected
        assert type(pipe.vae) is AutoencoderKL


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ("{sit} --family sti", "unknown family 'sti': did you mean 'sit'"),
        ("{sit} --family arflow", "ARFlow"),
        ("{arflow} --family sit", "SiT"),
        ("{arflow} --family arflow --num-heads 4", "the weights of arflow show their heads"),
        ("nothing.pt --family sit", "nothing.pt"),
        ("{sit} --family sit --class-names nothing.txt", "--class-names nothing.txt cannot be read"),
        ("{sit} --family sit --class-names {bad}", "must hold"),
        ("{sit} --family sit --vae {bad}", "is a file; give the folder of an AutoencoderKL"),
        ("{sit} --family sit --vae {bad.parent}", "no AutoencoderKL can be loaded"),
        ("{sit}", "the following arguments are required: --family"),
    ],
)
def test_mistakes(
    command: Callable[..., Any], released: dict[str, Path], tmp_path: Path, arguments: str, message: str
) -> None:
    bad = tmp_path / "bad.json"
    bad.write_text("[1]")
    result = command("convert", *arguments.format(**released, bad=bad).split(), "--out", tmp_path / "out")
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1
    assert not (tmp_path / "out" / "model_index.json").exists()
