"""The polynomial that stands in for exp in one layer, and its attention in the plain form that theory needs.

B: images, A: heads, M: queries, N: keys, d: width of a head.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from flowgression.ops.lowrank import minimax_exp
from flowgression.ops.lowrank.minimax import horner


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

    def shifted(self, k: Tensor) -> Tensor:
        """k [B, A, N, d] without the shift."""
        return k if self.shift is None else k - self.shift[:, None].to(k)

    def attend(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """sum_j P(q.k_j) v_j / sum_j P(q.k_j) from the dense logits, k already shifted. [B, A, M, d], any dtype."""
        weights = horner(minimax_exp(self.degree, self.bound).coefficients, q @ k.mT)
        return (weights @ v) / weights.sum(-1, keepdim=True)


def softmax_attend(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v from the dense logits, differentiable in every mode. [B, A, M, d]."""
    return torch.softmax(q @ k.mT, dim=-1) @ v
