"""Means and covariances in float64, and the Frechet distance between them.

Letters: n images, D features, G groups of images, K classes.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowgression.errors import InputError


@dataclass(frozen=True)
class Gaussian:
    """mean [D] and covariance [D,D] (with n - 1), float64, of `count` images; None where a file does not say."""

    mean: Tensor
    covariance: Tensor
    count: int | None = None


class Moments:
    """Sums over images, kept apart by class and by group; the images themselves are not kept.

    The sums are taken around the mean of the first images, so that large means do not eat the digits of small
    covariances. Memory is K G D^2 numbers, whatever the number of images.
    """

    def __init__(self, num_classes: int, num_groups: int, num_features: int) -> None:
        cells = (num_classes, num_groups)
        self.counts = torch.zeros(cells, dtype=torch.float64)
        self.totals = torch.zeros(*cells, num_features, dtype=torch.float64)
        self.products = torch.zeros(*cells, num_features, num_features, dtype=torch.float64)
        self.origin: Tensor | None = None

    def update(self, features: Tensor, classes: Tensor, groups: Tensor) -> None:
        """Add features [n,D] of images in the cells (classes [n], groups [n])."""
        features = features.double()
        if self.origin is None:
            self.origin = features.mean(0)
        features = features - self.origin
        cells = classes * self.counts.shape[1] + groups
        order = cells.argsort()
        present, sizes = cells.unique(return_counts=True)  # both in rising order
        for cell, rows in zip(present.tolist(), features[order].split(sizes.tolist()), strict=True):
            k, g = divmod(cell, self.counts.shape[1])
            self.counts[k, g] += len(rows)
            self.totals[k, g] += rows.sum(0)
            self.products[k, g] += rows.T @ rows

    def gaussian(self, weights: Tensor | None = None, label: int | None = None) -> Gaussian | None:
        """Mean and covariance of all images or of one class; None for fewer than two.

        Args:
            weights: how often each group counts, [G]; once by default.
        """
        chosen = slice(None) if label is None else slice(label, label + 1)
        weights = torch.ones(self.counts.shape[1], dtype=torch.float64) if weights is None else weights
        count = torch.einsum("kg,g->", self.counts[chosen], weights)
        if count < 2 or self.origin is None:
            return None
        mean = torch.einsum("kgd,g->d", self.totals[chosen], weights) / count
        products = torch.einsum("kgde,g->de", self.products[chosen], weights)
        covariance = (products - count * torch.outer(mean, mean)) / (count - 1)
        return Gaussian(self.origin + mean, covariance, int(count))


def frechet_distance(a: Gaussian, b: Gaussian) -> float:
    """|m_a - m_b|^2 + tr(S_a + S_b - 2 (S_a S_b)^(1/2)) (Dowson and Landau, 1982; as FID by arXiv 1706.08500).

    The trace of (S_a S_b)^(1/2) is the sum of the singular values of F_a^T F_b for any factors S = F F^T. Unlike the
    usual square root of the product this needs no inverse and no small multiple of the identity, and it loses no
    digits for singular covariances (fewer images than features, features that never vary).

    Raises:
        InputError: different numbers of features.
    """
    if a.mean.shape != b.mean.shape:
        raise InputError(f"{len(a.mean)} and {len(b.mean)} features cannot be compared; use one extractor for both")
    return distance_to(b.mean, b.covariance.trace(), factor(b.covariance), a)


def distance_to(mean: Tensor, trace: Tensor, root: Tensor, a: Gaussian) -> float:
    """`frechet_distance` of `a` to a Gaussian given by its mean [D], the trace and a factor [D,R] of its covariance."""
    overlap = torch.linalg.svdvals(factor(a.covariance).T @ root).sum()
    value = (a.mean - mean).square().sum() + a.covariance.trace() + trace - 2 * overlap
    return max(value.item(), 0.0)  # rounding can leave about -1e-14


def factor(covariance: Tensor) -> Tensor:
    """F [D,R] with F F^T = covariance [D,D] and R its rank up to floating-point error."""
    values, vectors = torch.linalg.eigh((covariance + covariance.T) / 2)
    kept = values > values[-1].clamp(min=0) * len(values) * torch.finfo(values.dtype).eps
    return vectors[:, kept] * values[kept].sqrt()
