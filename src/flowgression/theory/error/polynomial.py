"""The polynomial that stands in for exp in one layer, and its attention in the plain form that theory needs.

B: images, A: heads, M: queries, N: keys, d: width of a head.
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgression.ops.lowrank import minimax_exp
from flowgression.ops.lowrank.minimax import horner
from flowgression.theory.error.rounding import FUNCTION, UNIT, gamma


@dataclass(frozen=True)
class LayerPolynomial:
    """What replaces exp in one attention.

    degree: g, even. bound: half-width of its interval, at least the largest |logit|.
    shift: [A, d], subtracted from every key (as it stands in the logits), which changes no softmax and may make logits
        smaller; None: nothing.
    """

    degree: int
    bound: float
    shift: Tensor | None = None

    @property
    def epsilon(self) -> float:
        """Largest relative error of a weight on the interval."""
        return minimax_exp(self.degree, self.bound).eps

    @property
    def lost(self) -> float:
        """Bound on |ln(P(x) in float64 / P(x))| on the interval: Horner's rule loses gamma(2 g) |P|(B), and P is at
        least (1 - eps) exp(-B).
        """
        coefficients, eps = minimax_exp(self.degree, self.bound)
        absolute = sum(abs(c) * self.bound**j for j, c in enumerate(coefficients))
        relative = gamma(2 * self.degree + 8) * absolute * math.exp(self.bound) / (1 - eps) if eps < 1 else 1.0
        return -2 * math.log1p(-relative) if relative < 0.5 else math.inf

    def shifted(self, k: Tensor) -> Tensor:
        """k [B, A, N, d] without the shift."""
        return k if self.shift is None else k - self.shift[:, None].to(k)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """sum_j P(q.k_j) v_j / sum_j P(q.k_j) from the dense logits, k already shifted. [B, A, M, d], any dtype."""
        return self.average(q @ k.mT, v)

    def average(self, logits: Tensor, v: Tensor) -> Tensor:
        """The same from logits [B, A, M, N]."""
        weights = horner(minimax_exp(self.degree, self.bound).coefficients, logits)
        return (weights @ v) / weights.sum(-1, keepdim=True)


def softmax_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v from the dense logits, differentiable in every mode. [B, A, M, d]."""
    return torch.softmax(q @ k.mT, dim=-1) @ v


def softmax_lost(largest: float) -> float:
    """Bound on |ln(weight in float64 / weight)| of softmax for logits up to `largest`: their maximum is subtracted, and
    the exponential is off by FUNCTION.
    """
    return 4 * UNIT * largest + 2 * FUNCTION
