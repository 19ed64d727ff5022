"""The polynomial that stands in for exp in one layer, and its attention in the plain form that theory needs.

B: images, A: heads, M: queries, N: keys, d: width of a head.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowgression.ops.lowrank import minimax_exp
from flowgression.ops.lowrank.minimax import horner
from flowgression.theory.error.rounding import FUNCTION, UNIT, gamma


@dataclass(frozen=True)
class LayerPolynomial:
    """What replaces exp in one attention.

    degree: g, even. bound: half-width of its interval, at least the largest |logit|. Of all heads, or [A] of each.
    shift: [A, d], subtracted from every key (as it stands in the logits), which changes no softmax and may make logits
        smaller; None: nothing.
    """

    degree: int | tuple[int, ...]
    bound: float | tuple[float, ...]
    shift: Tensor | None = None

    @property
    def heads(self) -> tuple[tuple[int, float], ...]:
        """Degree and bound: one pair for all heads, or one for each."""
        degrees = self.degree if isinstance(self.degree, tuple) else (self.degree,)
        bounds = self.bound if isinstance(self.bound, tuple) else (self.bound,)
        return tuple(zip(degrees, bounds, strict=True))

    @property
    def epsilons(self) -> Tensor:
        """[1] or [A]: largest relative error of a weight on the interval."""
        return torch.tensor([minimax_exp(*pair).eps for pair in self.heads], dtype=torch.float64)

    @property
    def epsilon(self) -> float:
        """The largest of them."""
        return self.epsilons.max().item()

    @property
    def bounds(self) -> Tensor:
        """[1] or [A]."""
        return torch.tensor([bound for _, bound in self.heads], dtype=torch.float64)

    @property
    def lost(self) -> float:
        """Bound on |ln(P(x) in float64 / P(x))| on the intervals: Horner's rule loses gamma(2 g) |P|(B), and P is at
        least (1 - eps) exp(-B).
        """
        return max(_lost(*pair) for pair in self.heads)

    def shifted(self, k: Tensor) -> Tensor:
        """k [B, A, N, d] without the shift."""
        return k if self.shift is None else k - self.shift[:, None].to(k)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """sum_j P(q.k_j) v_j / sum_j P(q.k_j) from the dense logits, k already shifted. [B, A, M, d], any dtype."""
        return self.average(q @ k.mT, v)

    def average(self, logits: Tensor, v: Tensor) -> Tensor:
        """The same from logits [B, A, M, N]."""
        weights = horner(self._coefficients(logits), logits)
        return (weights @ v) / weights.sum(-1, keepdim=True)

    def _coefficients(self, like: Tensor) -> Sequence[Any]:
        """c_0..c_g; [A, 1, 1] each where heads differ, zeros above a head's degree."""
        each = [minimax_exp(*pair).coefficients for pair in self.heads]
        if len(each) == 1:
            return each[0]
        longest = max(map(len, each))
        table = torch.tensor([(*own, *(0.0,) * (longest - len(own))) for own in each], dtype=like.dtype)
        return list(table.to(like.device).T[:, :, None, None])


def _lost(degree: int, bound: float) -> float:
    coefficients, eps = minimax_exp(degree, bound)
    absolute = sum(abs(c) * bound**j for j, c in enumerate(coefficients))
    relative = gamma(2 * degree + 8) * absolute * math.exp(bound) / (1 - eps) if eps < 1 else 1.0
    return -2 * math.log1p(-relative) if relative < 0.5 else math.inf


def softmax_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v from the dense logits, differentiable in every mode. [B, A, M, d]."""
    return torch.softmax(q @ k.mT, dim=-1) @ v


def softmax_lost(largest: float) -> float:
    """Bound on |ln(weight in float64 / weight)| of softmax for logits up to `largest`: their maximum is subtracted, and
    the exponential is off by FUNCTION.
    """
    return 4 * UNIT * largest + 2 * FUNCTION
