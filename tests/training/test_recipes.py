"""The ImageNet recipes: every one trains for two steps with a network of a few thousand weights."""

import zlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from flowgression import InputError, TrainConfig, train
from flowgression.autoencoders.presets import PRESETS
from flowgression.data.dataset import MemoryImages
from flowgression.data.latents.index import CachePlan
from flowgression.data.latents.writer import write_cache
from flowgression.training import PreviewConfig, config_from_dict

CONFIGS = Path(__file__).parents[2] / "configs"
RECIPES = sorted(path.stem for path in CONFIGS.glob("*-imagenet*.yaml") if not path.stem.startswith("study-"))
SMALL = {
    "arflow": {"hidden_size": 16, "depth": 1, "num_heads": 2},
    "sit": {"hidden_size": 16, "depth": 1, "num_heads": 2},
    "flowar": {
        "hidden_size": 32, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2, "flow_width": 64, "flow_depth": 1,
        "flow_num_heads": 1,
    },
}  # fmt: skip

FAST = {"num_heads": 4, "flow_num_heads": 8}  # of width 8, as in the fast presets


def load(name: str) -> TrainConfig:
    return config_from_dict(TrainConfig, yaml.safe_load((CONFIGS / f"{name}.yaml").read_text()))


def reduced(name: str, folder: Path) -> TrainConfig:
    """The recipe with a small network on one thread; everything else stays as it is."""
    config = load(name)
    small = SMALL[config.model.family] | (FAST if "fast" in (config.model.preset or "") else {})
    return replace(
        config,
        model=replace(config.model, args=config.model.args | small),
        data=replace(config.data, path=str(folder / "cache"), num_workers=0),
        batch_size=2 * config.sequence_length * config.gradient_accumulation,
        max_steps=2,
        compile=False,
        device="cpu",
        num_threads=1,
        out=str(folder / name),
        preview=PreviewConfig(every=0),
        tracker="none",
    )


def make_cache(config: TrainConfig, folder: Path, scaling_factor: float) -> None:
    """Latents of twelve images of two of ImageNet's classes, in the shape that the recipe asks for."""
    channels, side = config.model.args["in_channels"], config.model.args["sample_size"]
    labels = np.arange(12, dtype=np.int64) % 2
    images = MemoryImages(np.zeros((12, 3, 8, 8), dtype=np.uint8), labels, [str(i) for i in range(1000)], 3)
    plan = CachePlan(
        source="made up", split="train", num_images=12, labels_crc32=zlib.crc32(labels.tobytes()),
        class_names=images.class_names, image_size=8, pixel_channels=3, autoencoder="made up", autoencoder_sha256=None,
        latent_channels=channels, latent_size=side, scaling_factor=scaling_factor, shift_factor=0.0, store="bf16",
        flip=True, shard_size=8,
    )  # fmt: skip
    generator = torch.Generator().manual_seed(0)

    def moments(batch: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        mean = torch.randn(len(batch), channels, side, side, generator=generator) / scaling_factor
        return mean, torch.full_like(mean, -6.0)

    write_cache(folder / "cache", plan, images, moments)


def test_every_model_of_the_papers_has_a_recipe() -> None:
    assert RECIPES == [
        "arflow-imagenet128-xl", "arflow-imagenet256-xl",
        "fastflowar-imagenet256-b", "fastflowar-imagenet256-h", "fastflowar-imagenet256-l", "fastflowar-imagenet256-s",
        "flowar-imagenet256-b", "flowar-imagenet256-h",
        "flowar-imagenet256-l", "flowar-imagenet256-s", "sit-imagenet128-xl", "sit-imagenet256-xl",
    ]  # fmt: skip


@pytest.mark.parametrize("name", RECIPES)
def test_two_steps(name: str, tmp_path: Path) -> None:
    config = reduced(name, tmp_path)
    assert config.data.scaling_factor is not None
    make_cache(config, tmp_path, config.data.scaling_factor)
    result = train(config)
    assert result.step == 2
    assert result.pipeline is not None


def test_latents_of_another_autoencoder_are_refused(tmp_path: Path) -> None:
    config = reduced("sit-imagenet256-xl", tmp_path)
    make_cache(config, tmp_path, 0.13025)
    with pytest.raises(InputError, match=r"data.scaling_factor=0.18215 does not fit .*made with 0.13025"):
        train(config)


@pytest.mark.parametrize("name", RECIPES)
def test_latents_are_those_of_the_papers(name: str) -> None:
    config = load(name)
    preset = PRESETS["mar-kl16" if config.model.family == "flowar" else "sd-vae"]
    pixels = int(name.split("imagenet")[1].split("-")[0])
    assert config.data.flip
    assert config.data.scaling_factor == preset.scaling_factor
    assert config.model.args["in_channels"] == preset.latent_channels
    assert config.model.args["sample_size"] == pixels // preset.downsampling


@pytest.mark.parametrize("name", [name for name in RECIPES if "flowar" not in name])
def test_hyperparameters_of_the_papers(name: str) -> None:
    config = load(name)
    keys = ("lr", "beta1", "beta2", "weight_decay", "clip_norm", "clip_value")
    found = {key: getattr(config.optimizer, key) for key in keys}
    expected = {"lr": 1e-4, "beta1": 0.9, "clip_norm": None}
    if config.model.family == "arflow":
        assert found == expected | {"beta2": 0.95, "weight_decay": 0.02, "clip_value": 3.0}
    else:
        assert found == expected | {"beta2": 0.999, "weight_decay": 0.0, "clip_value": None}
    assert (config.max_steps, config.ema.decay, config.batch_size // config.sequence_length) == (400_000, 0.9999, 256)
