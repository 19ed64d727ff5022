"""Normalisation without surprises: always computed in float32, returned in the input's type."""

import torch
from torch import Tensor, nn


def rms_norm(x: Tensor, eps: float = 1e-6, weight: Tensor | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension, times `weight` if given. Shape and dtype are kept.

    Half precision is lifted to float32 inside: the mean of squares overflows or loses bits otherwise.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    wide = wide * torch.rsqrt(wide.square().mean(-1, keepdim=True) + eps)
    if weight is not None:
        wide = wide * weight.to(wide.dtype)
    return wide.to(x.dtype)


class RMSNorm(nn.Module):
    """`rms_norm` over a width of `dim`, with a learned weight or without. [..., dim] -> [..., dim]."""

    def __init__(self, dim: int, eps: float = 1e-6, weight: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if weight else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.eps, self.weight)
