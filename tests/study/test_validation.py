"""Validation losses: the same questions for all models, in the company that each reads, in a study."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from flowgression import InputError
from flowgression.data import DataConfig, LabeledImages, open_dataset
from flowgression.data.config import ClassesConfig
from flowgression.study import read_study, run_study
from flowgression.study.config import ValidationConfig
from flowgression.study.differences import interval, paired, shown
from flowgression.study.validation import Questions, arranged, measure_losses
from flowgression.training.settings import SequenceConfig
from tests.study.conftest import SIZE

ROWS, LENGTH = 6, 4
CONFIG = ValidationConfig(num_images=400, row_length=LENGTH, num_bins=2)


def asked() -> Questions:
    """Images and noise that tell which they are."""
    number = torch.arange(ROWS * LENGTH).view(ROWS, LENGTH)
    images = number[..., None, None, None].float()
    times = torch.rand(ROWS, LENGTH, generator=torch.Generator().manual_seed(0))
    return Questions(images, images + 0.5, times, number // LENGTH)


@pytest.mark.parametrize("noise", ["falling", "rising", "random"])
@pytest.mark.parametrize("contents", ["class", "mixed"])
@pytest.mark.parametrize("length", [1, 2, 4])
def test_every_image_keeps_its_noise_and_time_in_any_company(noise: str, contents: str, length: int) -> None:
    before, read = asked(), arranged(asked(), length, SequenceConfig(noise=noise, contents=contents))  # type: ignore[arg-type]
    assert read.times.shape == (ROWS * LENGTH // length, length)
    number = read.images[..., 0, 0, 0].long()
    assert sorted(number.flatten().tolist()) == list(range(ROWS * LENGTH))
    assert torch.equal(read.noise[..., 0, 0, 0], number + 0.5)
    assert torch.equal(read.times, before.times.flatten()[number])
    assert torch.equal(read.labels, number // LENGTH)
    steps = read.times.diff(dim=1)
    assert {"falling": (steps >= 0).all(), "rising": (steps <= 0).all(), "random": True}[noise]
    if contents == "class":
        assert (number // length == number[:, :1] // length).all()  # of neighbours in their row
    elif length == LENGTH:
        assert (read.labels != read.labels[:, :1]).any()


def test_one_image_or_one_time_for_a_whole_sequence() -> None:
    image = arranged(asked(), 2, SequenceConfig(contents="image"))
    assert (image.images == image.images[:, :1]).all()
    equal = arranged(asked(), 2, SequenceConfig(noise="equal"))
    assert torch.equal(equal.times[:, 0], asked().times.view(-1, 2)[:, 0])
    assert (equal.times == equal.times[:, :1]).all()


class Stub:
    """Predicts a velocity of zeros, and keeps the labels that it was given."""

    def __init__(self, *, sequences: bool) -> None:
        self.config, self.device = SimpleNamespace(path="linear", num_classes=10), torch.device("cpu")
        self.labels: list[Tensor] = []
        if sequences:
            self.new_state = None

    def __call__(self, x: Tensor, t: Tensor, labels: Tensor, return_state: bool = True) -> Any:
        assert x.shape[:-3] == t.shape
        self.labels.append(labels)
        return SimpleNamespace(velocity=torch.zeros_like(x))


@pytest.fixture(scope="module")
def digits() -> LabeledImages:
    classes = ClassesConfig(num_classes=10, images_per_class=40)
    return open_dataset(DataConfig(path="mnist-classes", split="test", image_size=8, classes=classes))


def test_the_loss_is_the_mean_square_of_the_target_and_equal_for_all(digits: LabeledImages) -> None:
    single = measure_losses(Stub(sequences=False), digits, CONFIG, 1, SequenceConfig())
    assert single.loss.shape == (400,)
    for length, sequence in ((4, SequenceConfig()), (2, SequenceConfig(noise="random", contents="mixed"))):
        found = measure_losses(Stub(sequences=True), digits, CONFIG, length, sequence)
        order, other = np.argsort(single.time), np.argsort(found.time)
        np.testing.assert_array_equal(single.time[order], found.time[other])
        np.testing.assert_allclose(single.loss[order], found.loss[other], rtol=1e-6)
        assert np.bincount(found.place).tolist() == [400 // length] * length
    # Velocity 0: the loss is the mean of (x1 - x0)^2, with E x0^2 = 1 and x1 of these images.
    squares = digits.batch(range(400), [False] * 400).square().mean().item()
    assert single.loss.mean() == pytest.approx(1 + squares, abs=0.05)


def test_summaries_are_means_of_their_parts(digits: LabeledImages) -> None:
    found = measure_losses(Stub(sequences=True), digits, CONFIG, 4, SequenceConfig())
    summary = found.summary(2)
    late = found.time >= 0.5
    assert summary["by_time"] == pytest.approx([found.loss[~late].mean(), found.loss[late].mean()])
    assert np.mean(summary["by_place"]) == pytest.approx(summary["loss"])


def test_labels_are_those_of_the_images_or_null(digits: LabeledImages) -> None:
    model = Stub(sequences=True)
    measure_losses(model, digits, CONFIG, 4, SequenceConfig())
    assert {labels.shape for labels in model.labels} == {(20,)}
    mixed = Stub(sequences=True)
    measure_losses(mixed, digits, CONFIG, 4, SequenceConfig(contents="mixed"))
    assert {labels.shape for labels in mixed.labels} == {(20, 4)}
    null = Stub(sequences=True)
    measure_losses(null, digits, CONFIG, 4, SequenceConfig(), null_label=True)
    assert all((labels == 10).all() for labels in null.labels)


def test_rows_must_be_cut_evenly(digits: LabeledImages) -> None:
    with pytest.raises(InputError, match="row_length=4 must be a multiple"):
        measure_losses(Stub(sequences=True), digits, CONFIG, 3, SequenceConfig())


def test_interval_is_students() -> None:
    # Three values 0, 1, 2: s = 1, t(0.975, 2) = 4.302653.
    assert interval([0.0, 1.0, 2.0]) == pytest.approx(4.302653 / 3**0.5, rel=1e-6)
    assert np.isnan(interval([1.0]))


def test_differences_are_paired_by_seed() -> None:
    assert paired({0: 3.0, 2: 5.0, 1: 4.0}, {1: 1.0, 2: 7.0, 3: 0.0}) == [-2.0, 3.0]
    half = 12.7062047 * 5 / 2**0.5 / 2**0.5  # t(0.975, 1) s / sqrt(2), s = 5 / sqrt(2)
    assert shown([-2.0, 3.0], 2) == f"+0.50 [{0.5 - half:+.2f}, {0.5 + half:+.2f}]"
    assert shown([1.5], 1) == "+1.5"
    assert shown([], 1) == ""


def study(tiny_study: Callable[..., Path], **changes: Any) -> Any:
    content: dict[str, Any] = {
        "equal": ["images"],
        "bootstrap": 0,
        "reference": "mnist-classes:test,num_classes=12,images_per_class=20",
        "grids": [{"num_inference_steps": [1], "guidance_scale": [1.0]}],
        "validation": {"num_images": 120, "row_length": 6},
        "compare": {"Mixed": ["SiT"]},
        "train": {
            "data": {
                "path": "mnist-classes",
                "split": "test",
                "image_size": 16,
                "classes": {"num_classes": 12, "images_per_class": 20},
            },
            "batch_size": 6,
            "max_steps": 2,
            "device": "cpu",
            "preview": {"every": 0},
            "tracker": "none",
        },
        "models": {
            "SiT": {"sequence_length": 1, "model": {"family": "sit", "args": SIZE}},
            "Mixed": {
                "sequence_length": 3,
                "sequence": {"contents": "mixed"},
                "model": {"args": {**SIZE, "class_dropout_prob": 1.0}},
            },
            "More classes": {
                "reference": "mnist-classes:test,num_classes=15,images_per_class=10",
                "sequence_length": 1,
                "data": {"classes": {"num_classes": 15}},
                "model": {"family": "sit", "args": SIZE},
            },
        },
    }
    return read_study(tiny_study(**(content | changes)))


def test_a_study_measures_and_reports_them(tiny_study: Callable[..., Path]) -> None:
    config = study(tiny_study)
    report = run_study(config, lambda text: None).read_text()
    out = Path(config.out)
    assert "## Validation loss" in report
    assert "By place in the sequence" in report
    fid = {row["model"]: float(row["fid"]) for row in csv.DictReader((out / "results.csv").open())}
    assert f"| Mixed | SiT | 1 steps, euler, guidance 1 | 1 | {fid['Mixed'] - fid['SiT']:+.2f} |" in report
    assert (out / "validation-time.png").is_file()
    rows = list(csv.DictReader((out / "validation.csv").open()))
    wholes = [row for row in rows if row["of"] == "all"]
    assert {(row["model"], row["label"]) for row in wholes} == {
        ("SiT", "label"), ("SiT", "null label"), ("Mixed", "null label"),
        ("More classes", "label"), ("More classes", "null label"),
    }  # fmt: skip
    assert {row["reads"] for row in rows if row["model"] == "SiT"} == {"as trained"}
    assert len({row["reads"] for row in rows if row["model"] == "Mixed"}) == 3
    # Each model is compared with its own data.
    points = {path.parent.name: json.loads(path.read_text()) for path in (out / "cells").rglob("euler*.json")}
    assert points["more-classes-seed-0"]["settings"]["reference"].endswith("num_classes=15,images_per_class=10")
    assert points["sit-seed-0"]["settings"]["reference"] == config.reference
    assert len(list(out.glob("reference*.safetensors"))) == 2
    before = {path: path.stat().st_mtime_ns for path in out.rglob("validation.json")}
    assert len(before) == 3
    run_study(config, lambda text: None)
    assert before == {path: path.stat().st_mtime_ns for path in out.rglob("validation.json")}
    run_study(study(tiny_study, validation={"num_images": 240, "row_length": 6}), lambda text: None)
    assert all(path.stat().st_mtime_ns > time for path, time in before.items())


def test_models_without_a_velocity_of_images_are_refused(tiny_study: Callable[..., Path]) -> None:
    scales = {"patch_size": 8, "scales": [1, 2], "hidden_size": 16, "encoder_depth": 1, "decoder_depth": 1}
    args = {**scales, "num_heads": 2, "flow_width": 16, "flow_depth": 1, "flow_num_heads": 2}
    models = {"FlowAR": {"sequence_length": 1, "model": {"family": "flowar", "args": args}}}
    with pytest.raises(InputError, match="losses on scales"):
        run_study(study(tiny_study, models=models, validation={"row_length": 2}, compare={}), lambda text: None)
    assert not list(tiny_study().parent.rglob("checkpoints"))
    with pytest.raises(InputError, match="3 does not divide it"):
        run_study(study(tiny_study, validation={"row_length": 4}), lambda text: None)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"validation": {"num_images": 0}}, "num_images=0"),
        ({"compare": {"SiT": ["Mxied"]}}, "did you mean 'Mixed'"),
        ({"compare": {"SiT": "Mixed"}}, "compare"),
        ({"validation": {"rows": 3}}, "unknown key rows"),
    ],
)
def test_wrong_settings_are_refused(tiny_study: Callable[..., Path], changes: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        study(tiny_study, **changes)
