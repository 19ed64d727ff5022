"""An autoencoder of one's own: it learns, resumes exactly, knows its scale, and models are trained on its latents."""

import shutil
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from flowgression.autoencoders.loading import load_autoencoder
from flowgression.cli.main import main
from flowgression.cli.train_autoencoder import make_config, make_parser
from flowgression.data.config import DataConfig
from flowgression.data.opening import open_dataset
from flowgression.errors import InputError
from flowgression.sampling.loading import load_pipeline
from flowgression.training import automatic
from flowgression.training.autoencoder import (
    AutoencoderSession,
    AutoencoderTrainer,
    NetworkConfig,
    Reconstruction,
    psnr,
)
from flowgression.training.loop import train
from flowgression.training.run_folder import RunFolder

WEIGHTS = "autoencoder/diffusion_pytorch_model.safetensors"
SMALL = ["--image-size", "16", "--widths", "8,8", "--latent-channels", "4", "--batch-size", "8", "--num-threads", "1"]


@pytest.fixture(scope="module")
def photos(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """120 pictures of one smooth blot each, in two classes."""
    folder, generator = tmp_path_factory.mktemp("autoencoder") / "photos", np.random.default_rng(0)
    rows, columns = np.mgrid[:16, :16]
    for index in range(120):
        place, colour = generator.uniform(3, 13, 2), generator.uniform(0, 255, 3)
        blot = np.exp(-((rows - place[0]) ** 2 + (columns - place[1]) ** 2) / 12)[..., None]
        file = folder / ("left" if place[1] < 8 else "right") / f"{index}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray((255 - blot * (255 - colour)).astype(np.uint8)).save(file)
    return folder


@pytest.fixture(scope="module")
def trained(photos: Path) -> Path:
    run = photos.parent / "run"
    assert main(["train-autoencoder", "--data", str(photos), "--out", str(run), "--max-steps", "60", *SMALL]) == 0
    return run


def test_it_learns_and_its_latents_have_deviation_one(trained: Path, photos: Path) -> None:
    lines = [line for line in RunFolder(trained).read_metrics() if "loss" in line]
    assert lines[-1]["psnr"] > lines[0]["psnr"] + 3
    assert [line for line in RunFolder(trained).read_metrics() if "held_out_loss" in line]
    autoencoder = load_autoencoder(str(trained))
    assert (autoencoder.downsampling, autoencoder.latent_channels, autoencoder.pixel_channels) == (2, 4, 3)
    data = open_dataset(DataConfig(str(photos), image_size=16))
    images = data.batch(range(len(data)), [False] * len(data))
    latents = (autoencoder.encode(images).mean - autoencoder.shift_factor) * autoencoder.scaling_factor
    assert latents.std().item() == pytest.approx(1, abs=0.1)
    assert latents.mean().item() == pytest.approx(0, abs=0.1)
    found = psnr(autoencoder.decode(latents), images).item()
    assert found == pytest.approx(lines[-1]["psnr"], abs=4)


def test_killed_and_resumed_it_has_the_same_bits(trained: Path, photos: Path, tmp_path: Path) -> None:
    command = ["--data", str(photos), "--max-steps", "4", *SMALL, "--perceptual", "0", "--out"]
    whole, stopped = (
        replace(make_config(make_parser().parse([*command, str(tmp_path / name)])), checkpoint_every=2)
        for name in ("whole", "stopped")
    )
    make = {"make_trainer": partial(AutoencoderTrainer, describe=None), "make_session": AutoencoderSession}
    train(whole, **make)
    shutil.copytree(whole.out, stopped.out)
    for name in ("autoencoder", "checkpoints/step-0000004"):  # as killed after step 2
        shutil.rmtree(tmp_path / "stopped" / name)
    assert train(stopped, resume=True, **make).step == 4
    for name in (WEIGHTS, "metrics.jsonl", "autoencoder/config.json"):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    assert main(["train-autoencoder", *command, str(trained)]) == 2  # holds a run already


def test_models_are_trained_on_its_latents(
    trained: Path, photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(automatic, "measured_speed", lambda family, args, clock: 1e9)
    monkeypatch.setattr(automatic, "SIZES", ((32, 1),))
    command = ["train", "--data.path", str(photos), "--data.image_size", "16", "--autoencoder", str(trained)]
    command += ["--minutes", "0.02", "--out", str(tmp_path / "run"), "--batch-size", "4", "--tracker", "none"]
    assert main([*command, "--preview.num_images", "2"]) == 0
    said = capsys.readouterr().out
    assert "8 x 8 latents" in said
    pipe = load_pipeline(tmp_path / "run")
    assert pipe.vae.config.scaling_factor == load_autoencoder(str(trained)).scaling_factor
    pipe.set_progress_bar_config(disable=True)
    assert pipe(["left"], num_inference_steps=2).images[0].size == (16, 16)
    assert main([*command, "--resume"]) == 0


def test_the_loss_is_its_definition() -> None:
    """With an encoder whose posterior is a point and a decoder that gives zeros."""

    class Still(torch.nn.Module):
        def encode(self, images: torch.Tensor) -> "Still":
            self.latent_dist = self
            self.parameters = torch.cat([images[:, :1] * 0 + 2.0, images[:, :1] * 0], dim=1)  # type: ignore[assignment]
            return self

        def decode(self, latents: torch.Tensor) -> "Still":
            self.sample = torch.zeros(len(latents), 3, 4, 4)
            return self

    class Noise:
        def normal(self, shape: tuple[int, ...]) -> torch.Tensor:
            return torch.zeros(shape)

    images = torch.full((2, 3, 4, 4), 0.5)
    config = NetworkConfig(widths=(8,), kl=0.1, perceptual=0.2)
    found = Reconstruction(config, lambda seen: [seen * 3])(Still(), images, torch.zeros(2), Noise())  # type: ignore[arg-type]
    assert found.loss.item() == pytest.approx(0.5 + 0.1 * 2.0 + 0.2 * 1.5)  # |x|, (2^2 + 1 - 1 - 0) / 2, 3 |x|
    assert found.metrics["psnr"].item() == pytest.approx(12.04, abs=0.01)  # 10 log10(4 / 0.25)


def test_wrong_sizes_are_refused(photos: Path, tmp_path: Path) -> None:
    out = ["--data", str(photos), "--out", str(tmp_path / "run"), "--max-steps", "1"]
    assert main(["train-autoencoder", *out, "--image-size", "15", "--widths", "8,8"]) == 2
    assert main(["train-autoencoder", *out, "--widths", "8,x"]) == 2
    with pytest.raises(InputError, match="multiples of 8"):
        NetworkConfig(widths=(8, 12))
