"""The ImageNet recipes from raw images to the report, as docs/imagenet.md has them, with everything made small.

Every step is a command. The autoencoder has the channels, the factor of down-sampling and the scale of the recipe's;
the configuration, its optimiser and its sampling are the recipe's own but for sizes, numbers of steps and the device.
"""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from diffusers import AutoencoderKL
from PIL import Image
from torch import Tensor, nn

from flowgression.autoencoders.presets import PRESETS
from flowgression.study import read_study
from tests.training.test_recipes import FAST, SMALL

CONFIGS = Path(__file__).parents[2] / "configs"
LATENT, CLASSES, IMAGES = 4, 3, 36  # side of a latent; classes; images of all classes
Command = Callable[..., Any]

RECIPES = {
    "arflow-imagenet128-xl": ("sd-vae", "ARFlow-XL/2"),
    "sit-imagenet256-xl": ("sd-vae", "SiT-XL/2"),
    "flowar-imagenet256-s": ("mar-kl16", "FlowAR-S"),
    "fastflowar-imagenet256-s": ("mar-kl16", "FastFlowAR-S"),
}


class Colours(nn.Module):
    """An extractor: mean colours of quarters [B,12]; logits of three classes; mean colours of 4 x 4 places [B,48]."""

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        values = images.float() / 255
        means = nn.functional.adaptive_avg_pool2d(values, 1).flatten(1)
        pools = [nn.functional.adaptive_avg_pool2d(values, side).flatten(1) for side in (2, 4)]
        return pools[0], 10 * means, pools[1]


def make_images(folder: Path, side: int) -> Path:
    """Pictures of three classes: red, green and blue ramps with noise, a little larger than what is cropped."""
    random = np.random.default_rng(0)
    for index in range(IMAGES):
        label = index % CLASSES
        picture = random.integers(0, 60, (side + 6, side + 2, 3))
        picture[..., label] += np.linspace(60, 190, side + 6, dtype=np.int64)[:, None]
        path = folder / f"class{label}" / f"{index:03}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(picture.astype(np.uint8)).save(path)
    return folder


def make_autoencoder(folder: Path, like: str, images: Path, side: int) -> Path:
    """An AutoencoderKL, weights random, with channels, down-sampling and scale of `like` and latents of variance 1."""
    preset = PRESETS[like]
    torch.manual_seed(0)
    depth = preset.downsampling.bit_length()
    autoencoder = AutoencoderKL(
        block_out_channels=(8,) * depth,
        down_block_types=("DownEncoderBlock2D",) * depth,
        up_block_types=("UpDecoderBlock2D",) * depth,
        norm_num_groups=4,
        latent_channels=preset.latent_channels,
        scaling_factor=preset.scaling_factor,
    )
    pictures = [np.asarray(Image.open(path))[:side, :side] for path in sorted(images.rglob("*.png"))]
    batch = torch.from_numpy(np.stack(pictures)).permute(0, 3, 1, 2).float() / 127.5 - 1
    with torch.no_grad():
        spread = preset.scaling_factor * autoencoder.encode(batch).latent_dist.mean.std()
        for parameter in (autoencoder.quant_conv.weight, autoencoder.quant_conv.bias):
            parameter[: preset.latent_channels] /= spread
            parameter[preset.latent_channels :] = 0
        autoencoder.quant_conv.bias[preset.latent_channels :] = -4.0  # log-variances
    autoencoder.save_pretrained(folder)
    return folder


def training_flags(name: str, cache: Path, run: Path) -> list[object]:
    """What makes the recipe small."""
    recipe = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    family, sequence = recipe["model"]["family"], recipe["sequence_length"]
    args = SMALL[family] | (FAST if recipe["model"]["preset"].startswith("fast") else {})
    args |= {"sample_size": LATENT, "num_classes": CLASSES}
    if "flow_width" in args:
        args["scales"] = "[1,2,4]"
    values = {
        **{f"model.args.{key}": value for key, value in args.items()},
        "data.path": cache, "data.num_workers": 0, "batch_size": 4 * sequence, "max_steps": 12, "compile": "false",
        "schedule.warmup_steps": 2, "device": "cpu", "num_threads": 1, "out": run, "checkpoint_every": 6,
        "preview.every": 12, "preview.num_images": 3, "preview.num_inference_steps": 2, "tracker": "none",
    }  # fmt: skip
    return [part for key, value in values.items() for part in (f"--{key}", value)]


def small_study(name: str, model: str, folder: Path, reference: Path) -> Path:
    """The study that judges the recipe, for this model alone and with few images and steps."""
    size = name.split("imagenet")[1][:3]
    content = yaml.safe_load((CONFIGS / f"study-imagenet{size}.yaml").read_text())
    content["models"] = {model: {"pipeline": str(folder / "run")}}
    content["targets"] = [each for each in content["targets"] if each["model"] == model] or None
    content["grids"] = [
        {**grid, "num_inference_steps": [4], "models": [model]}
        for grid in content["grids"]
        if model in grid.get("models", [model])
    ]
    content |= {"out": str(folder / "study"), "num_images": 12, "batch_size": 5, "keep": 12, "bootstrap": 2}
    content |= {"features": f"{__name__}:Colours", "reference": str(reference), "device": "cpu"}
    path = folder / "study.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
    return path


@pytest.mark.slow
@pytest.mark.parametrize("name", RECIPES)
def test_from_raw_images_to_the_report(name: str, command: Command, tmp_path: Path) -> None:
    like, model = RECIPES[name]
    side = LATENT * PRESETS[like].downsampling
    images = make_images(tmp_path / "imagenet", side)
    autoencoder = make_autoencoder(tmp_path / "vae", like, images, side)
    cache, run, samples = tmp_path / "cache", tmp_path / "run", tmp_path / "samples.npz"
    reference, report = tmp_path / "reference.safetensors", tmp_path / "report.json"

    def do(*arguments: object) -> str:
        result = command(*arguments)
        assert result.status == 0, result.err
        return result.out

    do("cache-latents", "--data", images, "--image-size", side, "--autoencoder", autoencoder, "--out", cache,
       "--shard-size", 20, "--device", "cpu", "--verify")  # fmt: skip
    do("train", "--config", name, *training_flags(name, cache, run), "--resume")
    assert (run / "samples" / "step-0000012.png").is_file()
    study = small_study(name, model, tmp_path, reference)
    sampling = read_study(study).main_point.call()
    flags = {"--guidance-scale": [sampling["guidance_scale"]], "--solver": [sampling["solver"]]}
    for option in ("guidance_interval", "guided_channels", "time_grid"):
        if option in sampling:
            value = sampling[option]
            flags[f"--{option.replace('_', '-')}"] = list(value) if isinstance(value, tuple) else [value]
    do("sample", "--model", run / "pipeline", "--num-images", 12, "--label-policy", "balanced", "--num-inference-steps",
       4, *(part for flag, values in flags.items() for part in (flag, *values)), "--batch-size", 5, "--device", "cpu",
       "--out", samples)  # fmt: skip
    with np.load(samples) as content:
        assert content["arr_0"].shape == (12, side, side, 3)
        assert content["labels"].tolist() == [0, 1, 2] * 4
    features = ("--features", f"{__name__}:Colours", "--device", "cpu")
    do("reference", images, "--image-size", side, *features, "--out", reference)
    shown = do(
        "evaluate", "--samples", samples, "--reference", reference, *features, "--bootstrap", 2, "--json", report
    )
    assert "sFID" in shown
    judged = json.loads(report.read_text())
    assert judged["fid"] > 0
    assert judged["sfid"] > 0
    assert judged["samples_record"]["guidance_scale"] == sampling["guidance_scale"]
    do("study", study)
    text = (tmp_path / "study" / "report.md").read_text()
    assert "Unfinished" not in text
    assert "sFID" in text
    config = read_study(study)
    rows = list(csv.DictReader((tmp_path / "study" / "results.csv").open()))
    assert len(rows) == len(config.points(model)) >= 1
    for target in config.targets:
        [row] = [row for row in rows if float(row["guidance_scale"]) == target.guidance_scale]
        assert f"| {target.fid:g} | {float(row['fid']):.3g} |" in text
