"""RMS norm times a gate, by the Triton kernels of gated_norm_kernels.py: what reads and writes memory once each way."""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowgression.ops.gated_norm_kernels import backward_kernel, forward_kernel

_NUMBERS = 1024  # of a program
_OPTIONS = {"num_warps": 4, "enable_fp_fusion": True}


def gated_norm_triton(x: Tensor, gate: Tensor, eps: float) -> Tensor:
    """x / sqrt(mean(x^2) + eps) silu(gate) over the last dimension, for x and gate [..., d]; in the dtype of x."""
    return _GatedNorm.apply(x, gate, eps)


class _GatedNorm(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, gate: Tensor, eps: float) -> Tensor:
        x, gate = x.contiguous(), gate.contiguous()
        out = torch.empty_like(x)
        grid, sizes = _launch(x)
        with torch.cuda.device_of(x):
            forward_kernel[grid](x, gate, out, x.numel() // x.shape[-1], eps, **sizes, **_OPTIONS)
        ctx.save_for_backward(x, gate)
        ctx.eps = eps
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, Tensor, None]:
        x, gate = ctx.saved_tensors
        grad_x, grad_gate = torch.empty_like(x), torch.empty_like(gate)
        grid, sizes = _launch(x)
        arguments = (x, gate, grad.contiguous(), grad_x, grad_gate, x.numel() // x.shape[-1], ctx.eps)
        with torch.cuda.device_of(x):
            backward_kernel[grid](*arguments, **sizes, **_OPTIONS)
        return grad_x, grad_gate, None


def _launch(x: Tensor) -> tuple[tuple[int], dict[str, int]]:
    """The programs, and the sizes of one, for x [..., d]."""
    sizes = _sizes(x.shape[-1])
    return (-(-x.numel() // x.shape[-1] // sizes["ROWS"]),), sizes


def _sizes(d: int) -> dict[str, int]:
    width = 1 << (d - 1).bit_length()
    return {"D": d, "WIDTH": width, "ROWS": max(1, _NUMBERS // width)}
