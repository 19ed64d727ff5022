"""`flowgression convert`: released weights become a folder that samples."""

import argparse
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import pytest
import torch
from diffusers import AutoencoderKL
from huggingface_hub import ModelCard
from huggingface_hub.errors import LocalTokenNotFoundError

from flowgression import load_pipeline
from flowgression.models import load_autoencoder
from tests.autoencoders.ldm_autoencoder import LdmAutoencoder
from tests.families.golden import Golden


@pytest.fixture(scope="module")
def released(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("released")
    files = {family: folder / f"{family}.pt" for family in ("arflow", "sit")}
    for family, file in files.items():
        torch.save({"ema": Golden(f"{family}_dev").weights(), "args": argparse.Namespace(num_classes=10)}, file)
    return files


@pytest.mark.parametrize("family", ["arflow", "sit"])
def test_converted_model_is_the_released_one(
    command: Callable[..., Any], released: dict[str, Path], tmp_path: Path, family: str
) -> None:
    heads = ["--num-heads", 4] if family == "sit" else []  # no shape of a SiT shows them
    result = command("convert", released[family], "--family", family, "--out", tmp_path / "model", *heads)
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


def test_the_card_says_what_the_model_is(
    command: Callable[..., Any], released: dict[str, Path], tmp_path: Path
) -> None:
    out = tmp_path / "arflow-dev"
    assert command("convert", released["arflow"], "--family", "arflow", "--license", "mit", "--out", out).status == 0
    card = ModelCard.load(out / "README.md")
    assert (card.data.license, card.data.library_name) == ("mit", "flowgression")
    assert {"arflow", "flow-matching"} <= set(card.data.tags)
    count = sum(parameter.numel() for parameter in load_pipeline(out).transformer.parameters())
    checksum = hashlib.sha256(released["arflow"].read_bytes()).hexdigest()
    for text in ("# arflow-dev", f"| parameters | {count:,} |", checksum, "arXiv:2501.16085", 'pipeline("arflow-dev")'):
        assert text in card.text
    unlicensed = converted_sit(command, released, tmp_path) / "README.md"
    assert "license" not in ModelCard.load(unlicensed).data.to_dict()


def converted_sit(command: Callable[..., Any], released: dict[str, Path], tmp_path: Path) -> Path:
    out = tmp_path / "sit"
    assert command("convert", released["sit"], "--family", "sit", "--num-heads", 4, "--out", out).status == 0
    return out


def test_released_models_know_the_scale_of_their_latents(
    command: Callable[..., Any], released: dict[str, Path], tmp_path: Path
) -> None:
    folder = converted_sit(command, released, tmp_path)
    assert load_pipeline(folder).config.latent_space == {"scaling_factor": 0.18215, "shift_factor": 0.0}
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4, scaling_factor=0.13025).save_pretrained(tmp_path / "xl")
    arguments = ["--family", "sit", "--num-heads", 4, "--vae", tmp_path / "xl", "--out", tmp_path / "other"]
    result = command("convert", released["sit"], *arguments)
    assert result.status == 2
    assert "scaling_factor=0.18215, but the autoencoder has 0.13025" in result.err


@pytest.fixture(scope="module")
def kl16(tmp_path_factory: pytest.TempPathFactory) -> Path:
    file = tmp_path_factory.mktemp("kl16") / "kl16.ckpt"
    torch.save({"model": LdmAutoencoder(width=32, multipliers=(1, 2), blocks=1, latent=16).state_dict()}, file)
    return file


def test_an_autoencoder_becomes_a_folder(command: Callable[..., Any], kl16: Path, tmp_path: Path) -> None:
    result = command("convert", kl16, "--family", "mar-vae", "--out", tmp_path / "vae")
    assert (result.status, result.err) == (0, "")
    assert "AutoencoderKL" in result.out
    autoencoder = load_autoencoder(str(tmp_path / "vae"))
    assert (autoencoder.scaling_factor, autoencoder.latent_channels) == (0.2325, 16)
    assert ModelCard.load(tmp_path / "vae" / "README.md").data.library_name == "diffusers"


class FakeHub:
    """Takes the calls that an upload makes."""

    calls: ClassVar[list[tuple]] = []
    fault: ClassVar[str | None] = None

    def whoami(self) -> dict[str, str]:
        if self.fault == "logged out":
            raise LocalTokenNotFoundError("Token is required")
        return {"name": "somebody"}

    def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
        self.calls.append((repository, private, exist_ok))

    def upload_folder(self, *, repo_id: str, folder_path: str, commit_message: str) -> str:
        if self.fault == "offline":
            raise ConnectionError("no route to host")
        self.calls.append((repo_id, sorted(path.name for path in Path(folder_path).iterdir())))
        return f"https://hub/{repo_id}"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> type[FakeHub]:
    monkeypatch.setattr("flowgression.sampling.hub.HfApi", FakeHub)
    monkeypatch.setattr(FakeHub, "calls", [])
    return FakeHub


def test_upload(command: Callable[..., Any], kl16: Path, tmp_path: Path, hub: type[FakeHub]) -> None:
    arguments = ["--family", "mar-vae", "--out", tmp_path / "vae", "--push-to-hub", "me/kl16", "--private"]
    result = command("convert", kl16, *arguments)
    assert (result.status, result.err) == (0, "")
    assert "uploaded to https://hub/me/kl16" in result.out
    files = ["README.md", "config.json", "diffusion_pytorch_model.safetensors"]
    assert hub.calls == [("me/kl16", True, True), ("me/kl16", files)]
    assert "# me/kl16" in (tmp_path / "vae" / "README.md").read_text()


@pytest.mark.parametrize(
    ("fault", "repository", "message", "converted"),
    [
        (None, "kl16", "is no name on the Hugging Face hub; expected owner/name", False),
        ("logged out", "me/kl16", "not logged in to the hub (Token is required); run `hf auth login`", False),
        ("offline", "me/kl16", "the upload to me/kl16 failed (no route to host)", True),
    ],
)
def test_an_upload_that_cannot_work(
    command: Callable[..., Any], kl16: Path, tmp_path: Path, hub: type[FakeHub], monkeypatch: pytest.MonkeyPatch,
    fault: str | None, repository: str, message: str, converted: bool,
) -> None:  # fmt: skip
    monkeypatch.setattr(hub, "fault", fault)
    result = command("convert", kl16, "--family", "mar-vae", "--out", tmp_path / "vae", "--push-to-hub", repository)
    assert result.status == 2
    assert message in result.err
    assert (tmp_path / "vae").exists() == converted


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
        ("{sit} --family sit --num-heads 4 --vae {bad}", "is a file; give the folder of an AutoencoderKL"),
        ("{sit} --family sit --num-heads 4 --vae {bad.parent}", "no AutoencoderKL can be loaded"),
        ("{sit} --family mar-vae", "this is not a released KL autoencoder checkpoint"),
        ("{sit} --family mar-vae --vae {bad}", "--vae has no meaning for an autoencoder"),
        ("{sit} --family sit --scaling-factor 1", "--scaling-factor belongs to --family mar-vae"),
        ("{sit} --family sit --private", "--private goes with --push-to-hub"),
        ("{sit} --family sit", "--num-heads A"),
        ("{sit} --family sit --num-heads 0", "not divisible by num_heads 0"),
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
