"""`flowgression evaluate` and `reference`: reports, stored statistics, mistakes."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from torch import nn

from flowgression import InputError, load_pipeline
from flowgression.data import load_mnist
from flowgression.evaluation import load_extractor, load_statistics
from flowgression.evaluation.features.registry import MNIST_WEIGHTS
from flowgression.flops import VERSION, count_flops
from tests.scripts import load_script


class Means(nn.Module):
    """Four features: the mean of each quarter of the image. Used by its import path."""

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return nn.functional.adaptive_avg_pool2d(images.float().mean(1, keepdim=True), 2).flatten(1) / 255


def test_a_report_holds_what_decides_the_numbers(command: Callable[..., Any], digits: Path, tmp_path: Path) -> None:
    out = tmp_path / "report.json"
    arguments = ("--json", out, "--plot", tmp_path / "plot.png", "--bootstrap", 20)
    result = command("evaluate", "--samples", digits, "--reference", "mnist:test[:300]", *arguments)
    assert result.status == 0
    assert "FID" in result.out
    report = json.loads(out.read_text())
    for name in ("fid", "kid", "inception_score", "precision", "recall"):
        low, high = report[f"{name}_interval"]
        assert low <= report[name] <= high
    assert report["fid_per_class"] is None  # ids without names say nothing about the classes of the reference
    assert any("under these numbers without names: 0, 1, 2" in note for note in report["notes"])
    assert report["features"]["name"] == "mnist"
    assert "bicubic" in report["features"]["resize"]
    assert (report["num_samples"], report["num_reference"]) == (40, 300)
    assert report["versions"].keys() >= {"torch", "torchmetrics", "scipy", "flowgression"}
    assert any("singular" in note for note in report["notes"])
    assert (tmp_path / "plot.png").read_bytes().startswith(b"\x89PNG")


def test_classes_are_paired_by_name(command: Callable[..., Any], tmp_path: Path) -> None:
    """Folders in another order than the reference's, one class less, and one that the reference has not."""
    images, labels = load_mnist("test")
    names = ("zero", "one", "two", "three")
    folders = {**dict.fromkeys(names[1:], "{}"), "zero": "null"}
    for label, name in enumerate(names):
        folder = tmp_path / "digits" / folders[name].format(name)
        folder.mkdir(parents=True)
        for number, index in enumerate(np.flatnonzero(labels == label)[:30]):
            Image.fromarray(images[index]).save(folder / f"{number}.png")
    reports = []
    for samples, reference in (("digits", "mnist:test[:1000]"), ("digits", "mnist.safetensors"), ("a.npz", "digits")):
        if reference.endswith(".safetensors"):
            reference = tmp_path / reference
            assert command("reference", "mnist:test[:1000]", "--out", reference).status == 0
        if samples.endswith(".npz"):
            arguments = ("--model", "sit-mnist", "--num-inference-steps", 1, "--class-labels", "three", "one")
            assert command("sample", *arguments, "--num-images", 8, "--out", tmp_path / samples).status == 0
            reference = tmp_path / reference
        arguments = ("--samples", tmp_path / samples, "--reference", reference, "--bootstrap", 0)
        assert command("evaluate", *arguments, "--json", tmp_path / "report.json").status == 0
        reports.append(json.loads((tmp_path / "report.json").read_text()))
    assert list(reports[0]["fid_per_class"]) == ["one", "three", "two"]  # in the order of the samples' folders
    assert reports[1]["fid_per_class"] == pytest.approx(reports[0]["fid_per_class"], rel=1e-6)
    assert sorted(reports[2]["fid_per_class"]) == ["one", "three"]
    said = "\n".join(reports[0]["notes"])
    assert "digits has classes that the other set has not under these names: null." in said
    assert (
        "has classes that the other set has not under these names: zero, four, five, six, seven, ... (7 in all)" in said
    )
    by_class = reports[0]["fid_per_class"].values()  # the same digits: far nearer than another class would be
    assert max(by_class) < 30


def test_a_model_is_sampled_and_its_cost_measured(command: Callable[..., Any], tmp_path: Path) -> None:
    out, kept = tmp_path / "report.json", tmp_path / "kept.npz"
    arguments = ("--num-images", 12, "--num-inference-steps", 2, "--seed", 3, "--json", out, "--device", "cpu")
    result = command("evaluate", "--model", "sit-mnist", "--reference", "mnist:test[:100]", *arguments,
                     "--save-samples", kept)  # fmt: skip
    assert result.status == 0
    report = json.loads(out.read_text())
    assert report["cost_network_calls"] == 2
    assert report["cost_images_per_second"] > 0
    network = load_pipeline("sit-mnist").transformer
    # Counted for two images of one class: two steps share what is prepared for the class and the null label.
    x, t, labels = torch.zeros(2, 1, 28, 28), torch.zeros(2), torch.tensor([0, 10])
    rows = network.prepare(t, labels)[0].repeat_interleave(2, 0)
    flops = count_flops(lambda: network.prepare(t, labels)) + 2 * count_flops(lambda: network(x, prepared=rows))
    assert report["cost_flops_per_image"] == flops / 2
    assert report["cost_flop_counter"] == VERSION
    record = report["samples_record"]
    expected = {"model": "sit-mnist", "num_inference_steps": 2, "solver": "euler", "guidance_scale": 1.5, "seed": 3}
    assert expected.items() <= record.items()
    assert (record["precision"], record["rounding"][:7]) == ("float32", "clipped")
    again = command("evaluate", "--samples", kept, "--reference", "mnist:test[:100]", "--json", out)
    assert again.status == 0
    second = json.loads(out.read_text())
    assert second["fid"] == report["fid"]
    assert expected.items() <= second["samples_record"].items()  # the npz carries how it was made


def test_stored_statistics_give_the_numbers_of_the_images(
    command: Callable[..., Any], tmp_path: Path, digits: Path
) -> None:
    stored, adm, out = tmp_path / "ref.safetensors", tmp_path / "ref.npz", tmp_path / "report.json"
    assert command("reference", "mnist:test[:300]", "--out", stored).status == 0
    assert command("reference", "mnist:test[:300]", "--out", adm).status == 0
    reports = []
    for reference in ("mnist:test[:300]", stored, adm):
        assert command("evaluate", "--samples", digits, "--reference", reference, "--json", out).status == 0
        reports.append(json.loads(out.read_text()))
    direct, full, gaussian_only = reports
    for name in ("fid", "kid", "inception_score", "precision", "recall"):
        assert full[name] == pytest.approx(direct[name], rel=1e-9)
    assert gaussian_only["fid"] == pytest.approx(direct["fid"], rel=1e-9)
    assert gaussian_only["kid"] is None
    assert "mean and covariance only" in gaussian_only["kid_reason"]
    assert any("does not say whose features" in note for note in gaussian_only["notes"])
    with np.load(adm) as arrays:  # the layout of guided-diffusion's evaluator
        assert set(arrays) == {"mu", "sigma"}
        assert (arrays["mu"].dtype, arrays["sigma"].shape) == (np.float64, (64, 64))
        np.testing.assert_array_equal(load_statistics(adm).gaussian.mean, arrays["mu"])


def test_features_by_import_path(command: Callable[..., Any], digits: Path, tmp_path: Path) -> None:
    name, stored, out = "tests.evaluation.test_commands:Means", tmp_path / "ref.safetensors", tmp_path / "report.json"
    assert command("reference", digits, "--features", name, "--out", stored).status == 0
    result = command("evaluate", "--samples", digits, "--reference", stored, "--json", out, "--features", name)
    assert result.status == 0
    report = json.loads(out.read_text())
    assert report["features"]["name"] == name
    assert report["fid"] < 1e-6
    assert report["inception_score"] is None
    other = command("evaluate", "--samples", digits, "--reference", stored, "--features", "mnist")
    assert other.status == 2
    assert "features of different extractors cannot be compared: use --features tests.evaluation" in other.err


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (("--reference", "mnist"), "give either --samples X"),
        (("--samples", "mnist", "--model", "sit-mnist", "--reference", "mnist"), "give either --samples X"),
        (("--samples", "mnist", "--reference", "mnist", "--features", "mnits"), "did you mean 'mnist'"),
        (("--samples", "mnist", "--reference", "mnist", "--features", "no.such:thing"), "cannot import 'no.such'"),
        (
            ("--samples", "mnist", "--reference", "mnist", "--features", "math:pi"),
            "is a float; expected a torch module",
        ),
        (("--samples", "mnist", "--reference", "mnist", "--plot", "x.gif"), "a plot ends with"),
        (("--samples", "mnist", "--reference", "gone.safetensors"), "no file gone.safetensors"),
        (("--samples", "mnist:tset", "--reference", "mnist"), "did you mean 'test'"),
        (("--samples", "mnist", "--reference", "mnist", "--bootstrap", "-1"), "--bootstrap must be 0 or more"),
        (
            ("--samples", "mnist", "--reference", "mnist", "--features", "inception"),
            "no weights of the Inception network",
        ),
    ],
)
def test_mistakes_are_named(
    command: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, arguments: tuple, message: str
) -> None:
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    result = command("evaluate", *arguments)
    assert result.status == 2
    assert message in result.err
    assert result.err.count("\n") == 1


def test_inception_weights_are_known_by_their_checksum(tmp_path: Path) -> None:
    (tmp_path / "weights.pth").write_bytes(b"something else")
    with pytest.raises(InputError, match=r"has the SHA-256 .*, not 6726825d"):
        load_extractor("inception", tmp_path / "weights.pth")


def test_truncated_statistics_are_refused(command: Callable[..., Any], digits: Path, tmp_path: Path) -> None:
    stored = tmp_path / "ref.safetensors"
    command("reference", digits, "--out", stored)
    stored.write_bytes(stored.read_bytes()[:-100])
    result = command("evaluate", "--samples", digits, "--reference", stored)
    assert result.status == 2
    assert "truncated" in result.err
    result = command("evaluate", "--samples", digits, "--reference", MNIST_WEIGHTS)
    assert "holds no statistics of images" in result.err


def test_the_shipped_classifier_is_as_good_as_it_says(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("tools/train_mnist.py", monkeypatch)
    extractor = load_extractor("mnist")
    facts = json.loads((MNIST_WEIGHTS.parent / "config.json").read_text())
    assert facts["test_accuracy"]["28 x 28"] >= 0.99
    assert MNIST_WEIGHTS.stat().st_size < 2**20
    assert script.accuracies(extractor.network) == pytest.approx(facts["test_accuracy"], abs=2e-4)
    features = extractor(script.load_split("train")[0][:2000]).features
    assert features.shape == (2000, 64)
    assert features.square().mean().item() == pytest.approx(1.0, rel=0.05)
