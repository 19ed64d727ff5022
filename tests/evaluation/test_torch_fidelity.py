"""The metrics and the Inception network against torch-fidelity, where it is installed."""

import hashlib
from pathlib import Path
from unittest.mock import patch

import pytest
import torch

from flowgression.evaluation import compare, load_extractor
from flowgression.evaluation.features import inception
from tests.evaluation.conftest import statistics_of


def normal(count: int, size: int, seed: int, scale: float = 1.0) -> torch.Tensor:
    return scale * torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def test_all_metrics_agree() -> None:
    fid = pytest.importorskip("torch_fidelity.metric_fid", exc_type=ImportError)
    from torch_fidelity import metric_isc, metric_kid, metric_prc

    x, y, logits = normal(300, 12, 1), normal(300, 12, 2, scale=1.3), normal(300, 5, 3, scale=2)
    found = compare(statistics_of(x, logits, num_groups=1), statistics_of(y), num_replicates=0).estimates
    statistics = [fid.fid_features_to_statistics(features.double()) for features in (x, y)]
    expected = fid.fid_statistics_to_metric(*statistics, False)["frechet_inception_distance"]
    assert found["fid"].value == pytest.approx(expected, rel=1e-9)
    options = {"kid_subsets": 1, "kid_subset_size": 300, "verbose": False}
    kid = metric_kid.kid_features_to_metric(x.double(), y.double(), **options)["kernel_inception_distance_mean"]
    assert found["kid"].value == pytest.approx(kid, rel=1e-9)
    isc = metric_isc.isc_features_to_metric(logits, splits=1)["inception_score_mean"]
    assert found["inception_score"].value == pytest.approx(isc, rel=1e-9)
    prc = metric_prc.prc_features_to_metric(x, y, verbose=False)
    assert found["precision"].value == pytest.approx(prc["precision"], abs=1e-6)  # float32 there
    assert found["recall"].value == pytest.approx(prc["recall"], abs=1e-6)


@pytest.mark.slow
def test_inception_features_are_those_of_torch_fidelity(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With random weights: the real ones are 90 MB and not part of this project."""
    module = pytest.importorskip("torch_fidelity.feature_extractor_inceptionv3", exc_type=ImportError)
    network_class = module.FeatureExtractorInceptionV3
    with patch("torch.load", return_value={}), patch.object(network_class, "load_state_dict"):
        network = network_class("x", ["2048", "logits_unbiased"], feature_extractor_weights_path=__file__)
    for name, value in network.state_dict().items():
        if value.is_floating_point():  # not the counters of normalisation; variances must be positive
            value.copy_(torch.rand_like(value) + 0.5 if name.endswith("var") else 0.05 * torch.randn_like(value))
    weights = tmp_path / "weights.pth"
    torch.save(network.state_dict(), weights)
    monkeypatch.setattr(inception, "CHECKSUM", hashlib.sha256(weights.read_bytes()).hexdigest()[:8])
    extractor = load_extractor("inception", weights)
    grey = torch.randint(256, (2, 1, 32, 32), dtype=torch.uint8, generator=torch.Generator().manual_seed(0))
    features, logits, spatial = extractor(grey)
    assert features.shape == (2, 2048)
    assert logits is not None
    assert logits.shape == (2, 1008)
    expected = network.eval()(grey.repeat(1, 3, 1, 1))
    torch.testing.assert_close(features, expected[0])
    torch.testing.assert_close(logits, expected[1])
    assert spatial is not None
    assert spatial.shape == (2, 7 * 17 * 17)  # mixed_6/conv, after its ReLU
    assert 0 <= spatial.min() < spatial.max()
