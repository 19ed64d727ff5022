"""sFID: the Frechet distance of spatial features, from the extractor to the table, against float64 references."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.linalg import sqrtm
from torch import Tensor, nn

from flowgression import InputError, evaluate
from flowgression.cli.main import main
from flowgression.evaluation import collect, save_statistics
from flowgression.evaluation.features.base import Extractor, ExtractorInfo
from flowgression.evaluation.features.inception import FidInception
from flowgression.evaluation.images import ArrayImages

SIDE = 8


class MeansAndPlaces(nn.Module):
    """Features: means of quarters; no logits; spatial features: the pixels of a coarse map, [B,16]."""

    def forward(self, images: Tensor) -> tuple[Tensor, None, Tensor]:
        values = images.float().mean(1, keepdim=True) / 255
        pool = nn.functional.avg_pool2d
        return pool(values, SIDE // 2).flatten(1), None, pool(values, SIDE // 4).flatten(1)


def images(count: int, seed: int, shift: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(shift, 200 + shift, (count, SIDE, SIDE, 3), dtype=np.uint8)


def reference_distance(x: np.ndarray, y: np.ndarray) -> float:
    """The textbook formula in float64, by SciPy's square root of a matrix."""
    means, covariances = [each.mean(0) for each in (x, y)], [np.cov(each, rowvar=False) for each in (x, y)]
    root = sqrtm(covariances[0] @ covariances[1]).real
    return float(((means[0] - means[1]) ** 2).sum() + np.trace(covariances[0] + covariances[1] - 2 * root))


def places(pixels: np.ndarray) -> np.ndarray:
    """The spatial features in float64."""
    step = SIDE // 4
    grey = pixels.astype(np.float64).mean(-1) / 255
    return grey.reshape(len(pixels), 4, step, 4, step).mean((2, 4)).reshape(len(pixels), -1)


@pytest.fixture
def extractor() -> Extractor:
    return Extractor(MeansAndPlaces(), ExtractorInfo("places", "0", "none"))


def test_it_is_the_distance_of_the_spatial_features(extractor: Extractor) -> None:
    x, y = images(120, 1), images(200, 2, shift=9)
    report = evaluate(x, y, features=extractor, num_replicates=3).report
    # The features, at most 1, are means of 12 float32 values, right to 13 units of 2^-24; so the images of either set
    # move by at most 4 x 13 x 2^-24 in 16 dimensions, and the root of the distance, a metric, by the sum of both.
    expected = reference_distance(places(x), places(y))
    assert report["sfid"] == pytest.approx(expected, abs=2 * expected**0.5 * 2 * 4 * 13 * 2**-24)
    assert report["sfid_interval"] is None
    assert report["sfid"] > report["fid"] > 0


def test_places_count(extractor: Extractor) -> None:
    x = images(100, 1)
    assert evaluate(x, x, features=extractor, num_replicates=0).report["sfid"] < 1e-9
    light = np.concatenate([x[:, : SIDE // 2] // 4, x[:, SIDE // 2 :]], axis=1)  # darker above
    turned = evaluate(light[:, ::-1].copy(), light, features=extractor, num_replicates=0).report
    assert turned["sfid"] > 1


def test_extractors_without_spatial_features_have_none() -> None:
    report = evaluate("mnist:test[:20]", "mnist:test[20:40]", num_replicates=0).report
    assert not any(name.startswith("sfid") for name in report)


def test_references_keep_it(extractor: Extractor, tmp_path: Path) -> None:
    """Through our file and through the npz of guided-diffusion, alone and beside images."""
    x, y = images(60, 1), images(90, 2)

    def report(reference: Any) -> dict[str, Any]:
        return evaluate(x, reference, features=extractor, num_replicates=0).report

    expected, some, statistics = report(y), report(y[:30]), collect(ArrayImages("y", y), extractor)
    for name in ("y.safetensors", "y.npz"):
        save_statistics(statistics, tmp_path / name)
        for metric in ("fid", "sfid"):
            assert report(tmp_path / name)[metric] == pytest.approx(expected[metric], rel=1e-12)
    with np.load(tmp_path / "y.npz") as content:
        arrays = dict(content)
    assert set(arrays) == {"mu", "sigma", "mu_s", "sigma_s"}
    # As the references of guided-diffusion: moments of all images, and some of the images for precision and recall.
    np.savez(tmp_path / "both.npz", arr_0=y[:30], **arrays)
    both = report(tmp_path / "both.npz")
    for metric in ("fid", "sfid"):
        assert both[metric] == pytest.approx(expected[metric], rel=1e-12) != some[metric]
    for metric in ("kid", "precision", "recall"):
        assert both[metric] == some[metric]
    assert both["num_reference"] is None
    np.savez(tmp_path / "wide.npz", arr_0=y[:30], mu=np.zeros(7), sigma=np.eye(7))  # moments of other features
    assert report(tmp_path / "wide.npz")["fid"] == some["fid"]
    np.savez(tmp_path / "without.npz", mu=arrays["mu"], sigma=arrays["sigma"])
    without = report(tmp_path / "without.npz")
    assert without["sfid"] is None
    assert "no spatial features" in without["sfid_reason"]


def test_the_command_prints_it(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    np.savez(tmp_path / "x.npz", arr_0=images(40, 1))
    np.savez(tmp_path / "y.npz", arr_0=images(40, 2))
    arguments = ["evaluate", "--samples", tmp_path / "x.npz", "--reference", tmp_path / "y.npz", "--bootstrap", "0"]
    arguments += ["--features", f"{__name__}:MeansAndPlaces", "--json", tmp_path / "r.json", "--device", "cpu"]
    assert main([str(each) for each in arguments]) == 0
    shown = capsys.readouterr().out
    assert "sFID" in shown
    assert f"{json.loads((tmp_path / 'r.json').read_text())['sfid']:.4g}" in shown


class FakeInception(nn.Module):
    """What FidInception needs of the port: a layer Mixed_6d.branch1x1 with 192 maps of 17 x 17."""

    def __init__(self) -> None:
        super().__init__()
        self.Mixed_6d = nn.Module()
        self.Mixed_6d.branch1x1 = nn.Conv2d(3, 192, 1)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        maps = self.Mixed_6d.branch1x1(nn.functional.adaptive_avg_pool2d(x.float(), 17))
        return maps.mean((2, 3)), maps[:, :10, 0, 0]


def test_spatial_features_are_seven_channels_of_17_by_17_places() -> None:
    network = FakeInception()
    grey = torch.randint(256, (2, 1, 34, 34), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features, logits, spatial = FidInception(network)(grey)
        pixels = nn.functional.adaptive_avg_pool2d(grey.expand(-1, 3, -1, -1).float(), 17)
        maps = network.get_submodule("Mixed_6d.branch1x1")(pixels)
    assert (features.shape, logits.shape, spatial.shape) == ((2, 192), (2, 10), (2, 2023))
    for channel, row, column in ((0, 0, 0), (6, 0, 1), (3, 16, 16), (5, 4, 9)):
        position = (row * 17 + column) * 7 + channel  # as numpy.reshape of TensorFlow's [B,17,17,7]
        assert torch.equal(spatial[:, position], maps[:, channel, row, column])
    assert not network.get_submodule("Mixed_6d.branch1x1")._forward_hooks


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda features, _, spatial: (features, None, spatial[:1]), r"must give \[5, D\]"),
        (lambda features, _, spatial: (features, None, spatial * torch.nan), "not finite"),
    ],
)
def test_wrong_spatial_features_are_refused(change: Callable[..., Any], message: str) -> None:
    network = MeansAndPlaces()
    network.register_forward_hook(lambda module, inputs, output: change(*output))
    with pytest.raises(InputError, match=message):
        Extractor(network, ExtractorInfo("wrong", "0", "none"))(torch.zeros(5, 3, SIDE, SIDE, dtype=torch.uint8))
