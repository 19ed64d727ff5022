"""The small FID while training: what it compares, that nothing else changes by it, and what it costs."""

import shutil
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from PIL import Image
from safetensors.torch import load_file

from flowgression import InputError, TrainConfig, train
from flowgression.cli.main import main
from flowgression.data import DataConfig
from flowgression.evaluation.images import ArrayImages
from flowgression.evaluation.run import evaluate
from flowgression.training import PreviewConfig
from flowgression.training import fid as fids
from flowgression.training.autoencoder import AutoencoderConfig
from flowgression.training.fid import SmallFid
from flowgression.training.length import RunLength
from flowgression.training.previews import plot_loss
from flowgression.training.run_folder import RunFolder
from flowgression.training.trainer import Trainer

MakeConfig = Callable[..., TrainConfig]
DIGITS = DataConfig(path="mnist", split="test", num_workers=0)
PREVIEW = PreviewConfig(every=0, num_inference_steps=2, fid_images=20)
WEIGHTS = "diffusion_pytorch_model.safetensors"


def fid_lines(config: TrainConfig) -> list[dict[str, float]]:
    return [line for line in RunFolder(Path(config.out)).read_metrics() if "fid" in line]


def drawing(images: np.ndarray) -> Callable[..., Any]:
    """What takes the place of sampling: these images, uint8 [n,H,W,C]."""
    return lambda *args, **options: iter([type("Batch", (), {"images": images})])


@pytest.fixture
def colours(tmp_path: Path) -> Path:
    """30 pictures in two classes, red and blue, 16 x 16."""
    random = np.random.default_rng(0)
    for name, channel in (("red", 0), ("blue", 2)):
        (tmp_path / "colours" / name).mkdir(parents=True)
        for index in range(15):
            pixels = random.integers(0, 60, (16, 16, 3), dtype=np.uint8)
            pixels[..., channel] += 180
            Image.fromarray(pixels).save(tmp_path / "colours" / name / f"{index}.png")
    return tmp_path / "colours"


def test_it_is_the_fid_of_evaluate_against_pictures_held_out(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config("sit", data=replace(DIGITS, validation=0.01), preview=replace(PREVIEW, fid_images=60))
    with Trainer(config) as trainer:
        fid = SmallFid(trainer)
        assert "60 samples against 60 held-out pictures, features mnist;" in fid.describe()
        assert trainer.held_out is not None
        held_out = {image.numpy().tobytes() for image in trainer.held_out.pixels(range(len(trainer.held_out)))}
        reference = fid.reference
        assert isinstance(reference, ArrayImages)
        assert all(image.transpose(2, 0, 1).tobytes() in held_out for image in reference.images)
        others = trainer.dataset.pixels(range(50)).permute(0, 2, 3, 1).numpy()
        pipeline = type("", (), {"transformer": trainer.model})
        for samples in (others, reference.images):
            monkeypatch.setattr(fids, "sample_batches", drawing(samples))
            expected = evaluate(samples, reference, features="mnist", num_replicates=0).report["fid"]
            # The sums are taken in another order. Both covariances are singular, and the distance sees the root of what
            # rounding leaves in the directions that are dropped: D of them at most, each the root of D eps lambda.
            values = torch.linalg.eigvalsh(fid.gaussian.covariance)
            bound = len(values) * (len(values) * torch.finfo(torch.float64).eps) ** 0.5 * values[-1].item()
            assert bound < 1e-3
            assert fid.measure(pipeline) == pytest.approx(expected, abs=bound)


def of_colours(make: MakeConfig, folder: Path) -> TrainConfig:
    model = make("sit").model
    model = replace(model, args=model.args | {"patch_size": 4})
    return make("sit", model=model, data=DataConfig(path=str(folder), num_workers=0), preview=PREVIEW)


def test_it_falls_where_samples_come_nearer(
    tiny_config: MakeConfig, colours: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Pictures in colour are seen by pictures-1; without held-out ones those trained on are the reference."""
    with Trainer(of_colours(tiny_config, colours)) as trainer:
        fid = SmallFid(trainer)
        assert "20 samples against 20 training pictures, features pictures-1;" in fid.describe()
        pictures, random = trainer.dataset.pixels(range(30)).permute(0, 2, 3, 1).numpy(), np.random.default_rng(1)
        found = []
        for share in (1.0, 0.5, 0.0):
            noise = random.integers(0, 256, pictures.shape)
            mixed = (share * noise + (1 - share) * pictures).astype(np.uint8)
            monkeypatch.setattr(fids, "sample_batches", drawing(mixed))
            found.append(fid.measure(type("", (), {"transformer": trainer.model})))
        assert found[0] > found[1] > 2 * found[2], found


@pytest.mark.parametrize("family", ["arflow", "sit"])
def test_a_run_with_it_trains_the_same_and_resumes_exactly(
    family: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    whole, plain, stopped = (
        tiny_config(family, preview=preview, out=str(tmp_path / name))
        for name, preview in (("whole", PREVIEW), ("plain", replace(PREVIEW, fid_images=0)), ("stopped", PREVIEW))
    )
    train(whole)
    train(plain)
    assert [line["step"] for line in fid_lines(whole)] == [3, 6]
    assert all(line["fid"] > 0 for line in fid_lines(whole))
    rest = [line for line in RunFolder(Path(whole.out)).read_metrics() if "fid" not in line]
    assert rest == RunFolder(Path(plain.out)).read_metrics()
    weights = f"pipeline/transformer/{WEIGHTS}"
    first, second = (load_file(tmp_path / name / weights) for name in ("whole", "plain"))
    assert all(torch.equal(first[name], second[name]) for name in first)
    shutil.copytree(whole.out, stopped.out)
    shutil.rmtree(tmp_path / "stopped/pipeline")
    shutil.rmtree(tmp_path / "stopped/checkpoints/step-0000006")  # as killed after step 3
    train(stopped, resume=True)
    for name in ("metrics.jsonl", weights):
        assert (tmp_path / "stopped" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()


def test_pictures_of_a_latent_cache_are_decoded(tiny_config: MakeConfig, colours: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    AutoencoderKL(block_out_channels=(8,), norm_num_groups=4).save_pretrained(tmp_path / "vae")
    cache = tmp_path / "latents"
    flags = {"--data": colours, "--image-size": 8, "--autoencoder": tmp_path / "vae", "--out": cache}
    flags |= {"--scaling-factor": 0.993}  # by which these latents have a deviation of 1
    assert main(["cache-latents", *(str(word) for pair in flags.items() for word in pair)]) == 0
    model = tiny_config("sit").model
    model = replace(model, args=model.args | {"patch_size": 1})
    config = tiny_config("sit", data=DataConfig(path=str(cache), num_workers=0), model=model, preview=PREVIEW)
    with Trainer(config) as trainer:
        reference = SmallFid(trainer).reference
        assert (reference.facts["height"], reference.facts["channels"]) == (8, 3)
    train(config)
    assert [line["step"] for line in fid_lines(config)] == [3, 6]


def test_samples_that_are_not_finite_are_said_and_left_out(
    tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(*args: object, **options: object) -> None:
        raise FloatingPointError("nan")

    monkeypatch.setattr(fids, "sample_batches", fail)
    config = tiny_config("sit", preview=PREVIEW, max_steps=3)
    assert train(config).pipeline is not None
    assert fid_lines(config) == []
    assert "No FID at step 3: nan" in capsys.readouterr().out


def test_what_cannot_be_measured_is_refused_before_the_first_step(tiny_config: MakeConfig, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"preview.fid_images=1 must be 0 \(none\), or 2 or more"):
        PreviewConfig(fid_images=1)
    with pytest.raises(InputError, match="an autoencoder draws no samples"):
        AutoencoderConfig(preview=PREVIEW)
    (tmp_path / "one" / "a").mkdir(parents=True)
    Image.new("RGB", (16, 16)).save(tmp_path / "one" / "a" / "0.png")
    config = of_colours(tiny_config, tmp_path / "one")
    with pytest.raises(InputError, match="needs two pictures at least"):
        train(config)


def of_minutes(make: MakeConfig, seconds: float) -> tuple[list[float], float]:
    """When FIDs were measured that take so many seconds each, in a run of 1,000, and when the run ended."""
    length, now, measured = RunLength(make(minutes=1000 / 60, preview=PREVIEW), begun=0.0), 0.0, []
    for step in range(1, 100_000):
        now += 0.5
        length.update(now)
        if length.due("fid", step):
            measured.append(now)
            now += seconds
            length.took("fid", seconds)
        if length.is_over(step):
            return measured, now
    raise AssertionError("the run does not end")


def test_a_run_of_minutes_ends_on_time_with_a_last_one(tiny_config: MakeConfig) -> None:
    measured, end = of_minutes(tiny_config, 2.0)
    assert len(measured) == 10
    assert 970 < end < 990
    assert end - measured[-1] == pytest.approx(2.0)
    measured, end = of_minutes(tiny_config, 30.0)
    assert measured[0] == pytest.approx(100, abs=1)
    assert all(late - early >= 200 for early, late in pairwise(measured[1:-1]))
    assert end - measured[-1] == pytest.approx(30.0)
    assert 970 < end < 990
    measured, end = of_minutes(tiny_config, 200.0)  # too long to be kept free at the end
    assert len(measured) == 1
    assert 970 < end < 990


def test_one_that_would_take_longer_than_the_run_is_left_out(tiny_config: MakeConfig) -> None:
    length = RunLength(tiny_config(minutes=10.0, preview=PreviewConfig(num_images=10, fid_images=500)), begun=0.0)
    length.update(61.0)
    assert length.due("preview", 1)
    length.took("preview", 12.0)  # 500 samples take all ten minutes
    assert not length.due("fid", 1)
    length.update(62.0)
    length.took("preview", 2.0)
    assert length.due("fid", 2)


def test_processes_ask_at_the_same_steps_whatever_their_clocks(tiny_config: MakeConfig) -> None:
    config = tiny_config(minutes=10.0, preview=replace(PREVIEW, every=1))
    lengths = [RunLength(config, begun=begun) for begun in (0.0, -7.0)]
    for step in range(1, 1300):
        for length in lengths:
            length.update(step * 0.5)
        for kind in ("preview", "fid", "validation"):
            first, second = (length.due(kind, step) for length in lengths)
            assert first == second
            if first:
                for length in lengths:
                    length.took(kind, 3.0)
        first, second = (length.is_over(step) for length in lengths)
        assert first == second


def test_the_curve_has_a_scale_of_its_own(tmp_path: Path) -> None:
    lines = [{"step": step, "loss": 1 / step} for step in range(1, 50)]
    plot_loss(lines, tmp_path / "without.png")
    plot_loss([*lines, {"step": 20, "fid": 90.0}, {"step": 40, "fid": 30.0}], tmp_path / "with.png")
    with Image.open(tmp_path / "without.png") as without, Image.open(tmp_path / "with.png") as image:
        assert image.size == without.size == (840, 480)
        green = np.array(image.convert("RGB")).astype(int)
        assert ((green - [44, 160, 44]).__abs__().sum(axis=2) < 30).sum() > 100  # tab:green
