"""The methods for study: each is exact where theory says so, and its error falls as theory says."""

import itertools

import pytest
import torch

from flowgression import InputError
from flowgression.ops import softmax_attention
from tests.ops.lowrank.cases import unit_inputs
from tests.scripts import load_script

with pytest.MonkeyPatch.context() as patch:
    METHODS = load_script("benchmarks/comparators.py", patch)
nystrom_attention, performer_attention, svd_attention = (
    getattr(METHODS, f"{name}_attention") for name in ("nystrom", "performer", "svd")
)


def generator():
    return torch.Generator().manual_seed(0)


def error(output, inputs):
    return (output - softmax_attention(*inputs, scale=1.0).output).abs().max().item()


def test_full_rank_is_exact():
    inputs = unit_inputs("random", 2, 20, 3)
    assert error(svd_attention(*inputs, num_components=20, scale=1.0), inputs) < 1e-10
    landmarks = nystrom_attention(*inputs, num_landmarks=40, generator=generator(), scale=1.0)
    assert error(landmarks, inputs) < 1e-7


def test_truncated_svd_is_the_best_of_its_rank():
    q, k, _ = unit_inputs("random", 1, 30, 3)
    kernel = (q @ k.mT).exp()
    singular = torch.linalg.svdvals(kernel)
    # With the identity for values the output is the approximation itself, its rows divided by their sums.
    output = svd_attention(q, k, torch.eye(30, dtype=torch.float64)[None], num_components=5, scale=1.0)
    assert torch.linalg.matrix_rank(output) == 5
    scaled = output * kernel.sum(-1, keepdim=True)
    assert (scaled - kernel).norm() < 3 * singular[:, 5:].norm()


def test_performer_converges_with_the_root_of_its_features():
    inputs = unit_inputs("random", 8, 50, 4)
    exact = softmax_attention(*inputs, scale=1.0).output
    errors = []
    for m in (64, 1024, 16384):
        output = performer_attention(*inputs, num_features=m, generator=generator(), scale=1.0)
        errors.append((output - exact).square().mean().sqrt().item())
    for larger, smaller in itertools.pairwise(errors):
        assert 2 < larger / smaller < 8  # sixteen times the features: a quarter of the error


def test_performer_features_are_an_unbiased_kernel():
    # One key far more common than the other, values telling them apart: the output is a ratio of kernel estimates.
    inputs = unit_inputs("opposite", 1, 4, 2)
    output = performer_attention(*inputs, num_features=2**18, generator=generator(), scale=1.0)
    assert error(output, inputs) < 0.02


def test_bad_arguments():
    inputs = unit_inputs("random", 1, 4, 2)
    with pytest.raises(InputError, match=r"rank >= 1, got scale=1\.0 and rank 0"):
        svd_attention(*inputs, num_components=0, scale=1.0)
    with pytest.raises(InputError, match="scale >= 0"):
        performer_attention(*inputs, num_features=4, generator=generator(), scale=-1.0)
