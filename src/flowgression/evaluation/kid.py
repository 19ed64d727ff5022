"""KID, the kernel distance of arXiv 1801.01401: the unbiased squared MMD with the kernel (x . y / D + 1)^3.

Letters: m, n images of the two sets, D features, R replicates of a bootstrap.
"""

import torch
from torch import Tensor

from flowgression.errors import InputError

CHUNK = 1000


def kernel_distance(x: Tensor, y: Tensor, weights: Tensor | None = None) -> Tensor:
    """KID of features x [m,D] and y [n,D], all pairs instead of random subsets; float64.

    Args:
        weights: [m,R], how often each row of x counts in each of R replicates; once by default. Pairs of an image
            with itself never count, also not with its own repetition.

    Returns:
        [R] values, [1] without weights. They may be negative: the estimate has no bias.

    Raises:
        InputError: fewer than two images in a set, or different numbers of features.
    """
    if min(len(x), len(y)) < 2 or x.shape[1] != y.shape[1]:
        raise InputError(f"KID needs two sets of at least two images with equal features; got {x.shape}, {y.shape}")
    x, y = x.double(), y.double()
    weights = torch.ones(len(x), 1, dtype=torch.float64) if weights is None else weights.double()
    ones = torch.ones(len(y), 1, dtype=torch.float64)
    totals = weights.sum(0)
    pairs_x = totals.square() - weights.square().sum(0)
    within_x = _pair_sums(x, x, weights, weights) - (weights.square() * _self_kernel(x)[:, None]).sum(0)
    within_y = _pair_sums(y, y, ones, ones) - _self_kernel(y).sum()
    across = _pair_sums(x, y, weights, ones)
    return within_x / pairs_x + within_y / (len(y) * (len(y) - 1)) - 2 * across / (totals * len(y))


def _pair_sums(x: Tensor, y: Tensor, wx: Tensor, wy: Tensor) -> Tensor:
    """Sum over all pairs of wx_i k(x_i, y_j) wy_j, [R], with a few rows of the kernel at a time."""
    from torchmetrics.image.kid import poly_kernel

    parts = zip(x.split(CHUNK), wx.split(CHUNK), strict=True)
    return torch.stack([(w * (poly_kernel(rows, y) @ wy)).sum(0) for rows, w in parts]).sum(0)


def _self_kernel(x: Tensor) -> Tensor:
    return (x.square().sum(1) / x.shape[1] + 1) ** 3
