"""Normalisation without surprises: always computed in float32, returned in the input's type."""

from typing import Any

import torch
from torch import Tensor, nn


def rms_norm(x: Tensor, eps: float = 1e-6, weight: Tensor | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) over the last dimension, times `weight` if given. Shape and dtype are kept.

    Half precision is lifted to float32 inside: the mean of squares overflows or loses bits otherwise.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    # A compiler fuses the formula and its derivative by itself.
    recorded = torch.is_grad_enabled() and wide.requires_grad and not torch.compiler.is_compiling()
    wide = _Normalised.apply(wide, eps) if recorded else wide * _factor(wide, eps)
    if weight is not None:
        wide = wide * weight.to(wide.dtype)
    return wide.to(x.dtype)


def _factor(x: Tensor, eps: float) -> Tensor:
    """1 / sqrt(mean(x^2) + eps)."""
    return torch.rsqrt(x.square().mean(-1, keepdim=True) + eps)


class _Normalised(torch.autograd.Function):
    """y = r x with r = 1 / sqrt(mean(x^2) + eps), and its derivative in closed form: dx = r (dy - y mean(dy y)).

    Autograd's own, step by step through square and mean, takes more than twice as long.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, eps: float) -> Tensor:
        factor = _factor(x, eps)
        normalised = x * factor
        ctx.save_for_backward(normalised, factor)
        ctx.save_for_forward(normalised, factor)
        return normalised

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:  # type: ignore[override]
        normalised, factor = ctx.saved_tensors
        along = (gradient * normalised).mean(-1, keepdim=True)
        return torch.addcmul(gradient, normalised, along, value=-1).mul_(factor), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, _: None) -> Tensor:  # type: ignore[override]
        normalised, factor = ctx.saved_tensors
        scaled = tangent * factor
        return scaled - normalised * (scaled * normalised).mean(-1, keepdim=True)


class RMSNorm(nn.Module):
    """`rms_norm` over a width of `dim`, with a learned weight or without. [..., dim] -> [..., dim]."""

    def __init__(self, dim: int, eps: float = 1e-6, weight: bool = True):
        super().__init__()
        self.eps = eps
        self.weight = nn.Parameter(torch.ones(dim)) if weight else None

    def forward(self, x: Tensor) -> Tensor:
        return rms_norm(x, self.eps, self.weight)
