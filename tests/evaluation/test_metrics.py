"""The arithmetic of all metrics against NumPy, SciPy, torchmetrics and closed forms."""

import numpy as np
import pytest
import scipy.linalg
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

from flowgression import InputError
from flowgression.evaluation import compare
from flowgression.evaluation.gaussian import Gaussian, factor, frechet_distance
from flowgression.evaluation.inception_score import ScoreSums
from flowgression.evaluation.kid import kernel_distance
from flowgression.evaluation.manifold import covered
from tests.evaluation.conftest import statistics_of


def normal(count: int, size: int, seed: int = 0, scale: float = 1.0, shift: float = 0.0) -> torch.Tensor:
    return shift + scale * torch.randn(count, size, generator=torch.Generator().manual_seed(seed))


def numpy_fid(x: torch.Tensor, y: torch.Tensor) -> float:
    a, b = x.double().numpy(), y.double().numpy()
    s, t = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(s @ t)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(s + t - 2 * root.real))


def test_frechet_distance_of_known_gaussians() -> None:
    mean, eye = torch.zeros(3, dtype=torch.float64), torch.eye(3, dtype=torch.float64)
    a, b = Gaussian(mean, 4 * eye), Gaussian(mean + 2, 9 * eye)
    assert frechet_distance(a, b) == pytest.approx(3 * 2**2 + 3 * (2 - 3) ** 2, rel=1e-14)
    flat = Gaussian(mean, torch.diag(torch.tensor([1.0, 0.0, 0.0], dtype=torch.float64)))
    other = Gaussian(mean, torch.diag(torch.tensor([0.0, 1.0, 0.0], dtype=torch.float64)))
    assert frechet_distance(flat, other) == pytest.approx(2.0, abs=1e-14)  # both singular, nothing shared


@pytest.mark.parametrize("count", [500, 12])  # with 12 images the covariances have rank 11 of 16
def test_fid_agrees_with_scipy(count: int) -> None:
    x, y = normal(count, 16, 1), normal(count + 30, 16, 2, scale=1.3, shift=0.2)
    result = compare(statistics_of(x), statistics_of(y, num_groups=1), num_replicates=0)
    assert result.estimates["fid"].value == pytest.approx(numpy_fid(x, y), rel=1e-6)


def test_fid_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.fid import FrechetInceptionDistance

    class Identity(nn.Module):
        num_features = 8

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    x, y = normal(300, 8, 1), normal(400, 8, 2, scale=1.5)
    metric = FrechetInceptionDistance(feature=Identity())
    metric.update(y, real=True)
    metric.update(x, real=False)
    value = compare(statistics_of(x), statistics_of(y), num_replicates=0).estimates["fid"].value
    assert value == pytest.approx(metric.compute().item(), rel=1e-5)  # torchmetrics returns float32


@pytest.mark.parametrize("size", [5, 64, 300])
def test_identical_sets_have_no_distance(size: int) -> None:
    x = normal(200, size, scale=3, shift=10)
    result = compare(statistics_of(x), statistics_of(x, num_groups=1), num_replicates=0)
    assert result.estimates["fid"].value < 1e-6
    assert result.estimates["precision"].value == result.estimates["recall"].value == 1.0


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 10**6), size=st.integers(1, 12), count=st.integers(2, 40))
def test_frechet_distance_is_symmetric_and_not_negative(seed: int, size: int, count: int) -> None:
    a, b = statistics_of(normal(count, size, seed)).gaussian, statistics_of(normal(30, size, seed + 1)).gaussian
    assert a is not None
    assert b is not None
    there, back = frechet_distance(a, b), frechet_distance(b, a)
    assert there == pytest.approx(back, abs=1e-9)
    assert there >= 0
    assert frechet_distance(a, a) < 1e-9


def test_factor_has_the_rank_of_the_covariance() -> None:
    covariance = torch.from_numpy(np.cov(normal(6, 20).double().numpy(), rowvar=False))
    root = factor(covariance)
    assert root.shape == (20, 5)
    torch.testing.assert_close(root @ root.T, covariance)


def test_means_far_from_zero_lose_no_digits() -> None:
    x = normal(400, 4).double()
    near, far = statistics_of(x).gaussian, statistics_of(x + 1e6).gaussian
    assert near is not None
    assert far is not None
    torch.testing.assert_close(near.covariance, far.covariance, rtol=1e-8, atol=1e-9)


def test_streaming_agrees_with_numpy_by_class() -> None:
    x = normal(500, 6)
    labels = np.arange(500) % 3
    found = statistics_of(x, labels=labels)
    assert found.gaussian is not None
    np.testing.assert_allclose(found.gaussian.covariance, np.cov(x.double().numpy(), rowvar=False), rtol=1e-10)
    assert sorted(found.classes) == [0, 1, 2]
    for label, gaussian in found.classes.items():
        mine = x[labels == label].double().numpy()
        assert gaussian.count == len(mine)
        np.testing.assert_allclose(gaussian.mean, mine.mean(0), rtol=1e-10)
        np.testing.assert_allclose(gaussian.covariance, np.cov(mine, rowvar=False), rtol=1e-10)


def test_kid_agrees_with_the_sum_over_all_pairs() -> None:
    x, y = normal(7, 3, 1), normal(9, 3, 2)

    def kernel(a: torch.Tensor, b: torch.Tensor) -> float:
        return (float(a.double() @ b.double()) / 3 + 1) ** 3

    within_x = np.mean([kernel(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j])
    within_y = np.mean([kernel(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j])
    across = np.mean([kernel(a, b) for a in x for b in y])
    assert kernel_distance(x, y).item() == pytest.approx(within_x + within_y - 2 * across, rel=1e-12)


def test_kid_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.kid import poly_mmd

    x, y = normal(200, 10, 1).double(), normal(200, 10, 2, scale=1.2).double()
    assert kernel_distance(x, y).item() == pytest.approx(poly_mmd(x, y).item(), rel=1e-12)


def test_weights_of_kid_repeat_images_without_pairing_them_with_themselves() -> None:
    x, y = normal(6, 3, 1), normal(8, 3, 2)
    weights = torch.tensor([[2.0, 1.0], [0.0, 1.0], [1.0, 1.0], [1.0, 0.0], [1.0, 1.0], [1.0, 1.0]])
    values = kernel_distance(x, y, weights)
    assert values[1].item() == pytest.approx(kernel_distance(x[[0, 1, 2, 4, 5]], y).item(), rel=1e-12)
    assert values[0].item() != pytest.approx(kernel_distance(x[[0, 0, 2, 3, 4, 5]], y).item(), rel=1e-3)


def test_kid_of_equal_distributions_has_no_bias() -> None:
    values = [kernel_distance(normal(20, 4, seed), normal(30, 4, 1000 + seed)).item() for seed in range(300)]
    assert abs(np.mean(values)) < 4 * np.std(values) / len(values) ** 0.5


def test_inception_score_of_known_predictions() -> None:
    sums = ScoreSums(10, 4)
    confident = 100.0 * torch.eye(4).repeat(10, 1)
    sums.update(confident, torch.arange(40) % 10)
    # A split of four images, two of one class and two of another: entropy ln 2.
    assert sums.score() == pytest.approx(2.0, rel=1e-12)
    alike = ScoreSums(10, 4)
    alike.update(torch.zeros(40, 4), torch.arange(40) % 10)
    assert alike.score() == pytest.approx(1.0, rel=1e-12)


def test_inception_score_agrees_with_torchmetrics() -> None:
    from torchmetrics.image.inception import InceptionScore

    class Identity(nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    logits = normal(400, 10, scale=2)
    metric = InceptionScore(feature=Identity(), splits=1)
    metric.update(logits)
    found = statistics_of(normal(400, 3), logits, num_groups=1)
    assert found.scores is not None
    assert found.scores.score() == pytest.approx(metric.compute()[0].item(), rel=1e-5)


def test_precision_and_recall_agree_with_loops() -> None:
    real, fake = normal(25, 3, 1).double(), normal(20, 3, 2, scale=1.4).double()

    def share(points: torch.Tensor, centres: torch.Tensor) -> float:
        inside = 0
        for point in points:
            for centre in centres:
                radius = sorted((centre - other).norm().item() for other in centres)[3]
                if (point - centre).norm().item() <= radius:
                    inside += 1
                    break
        return inside / len(points)

    assert covered(fake, real).double().mean().item() == pytest.approx(share(fake, real))
    assert covered(real, fake).double().mean().item() == pytest.approx(share(real, fake))


def test_intervals_cover_what_other_samples_give() -> None:
    """Of 20 sets of samples about 19 should have an interval that holds the mean over all sets."""
    reference = statistics_of(normal(600, 4, 999), num_groups=1)
    results = [
        compare(statistics_of(normal(300, 4, n, shift=0.5), seed=n), reference, seed=n, num_replicates=80).estimates
        for n in range(20)
    ]
    for name in ("fid", "kid"):
        mean = np.mean([result[name].value for result in results])
        hits = sum(result[name].interval[0] <= mean <= result[name].interval[1] for result in results)
        assert hits >= 15, name


def test_few_images_give_what_can_be_had_and_say_why_not_the_rest() -> None:
    reference = statistics_of(normal(50, 4), normal(50, 3))
    one = compare(statistics_of(normal(1, 4), normal(1, 3)), reference).estimates
    assert one["fid"].value is None
    assert "fewer than two" in one["fid"].reason
    assert one["kid"].value is None
    assert one["inception_score"].value == pytest.approx(1.0)
    assert one["precision"].value is not None
    assert "more than 3" in one["recall"].reason
    three = compare(statistics_of(normal(3, 4), normal(3, 3)), reference)
    assert three.estimates["fid"].value is not None
    assert any("3 images for 4 features" in note for note in three.notes)


def test_a_feature_that_never_varies_is_said() -> None:
    x = normal(100, 4)
    x[:, 2] = 7.0
    notes = compare(statistics_of(x), statistics_of(normal(100, 4, 1))).notes
    assert any("rank 3 for 4 features" in note for note in notes)


def test_other_numbers_of_features_are_refused() -> None:
    with pytest.raises(InputError, match="different extractors"):
        compare(statistics_of(normal(20, 4)), statistics_of(normal(20, 5)))


def test_batch_size_does_not_matter() -> None:
    x, logits = normal(230, 5), normal(230, 3, 1)
    one = compare(statistics_of(x, logits), statistics_of(x * 1.1, logits))
    two = compare(statistics_of(x, logits, batch_size=23), statistics_of(x * 1.1, logits))
    for name, estimate in one.estimates.items():
        assert two.estimates[name].value == pytest.approx(estimate.value, rel=1e-9)
        assert two.estimates[name].interval == pytest.approx(estimate.interval, rel=1e-6)


def test_memory_does_not_grow_with_the_images() -> None:
    few, many = (statistics_of(normal(count, 4), keep=50) for count in (100, 3000))
    for one in (few, many):
        assert one.kept is not None
        assert one.kept.shape == (50, 4)
        assert one.moments is not None
        assert one.moments.products.shape == (1, 20, 4, 4)
