"""RMS norm times a gate in the backend that suits the inputs."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn.functional import silu

from flowgression.layers.norms import rms_norm
from flowgression.ops import triton_support
from flowgression.ops.backends import Backend, Operation

EPS = 1e-6
_WIDEST = 4096
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Function = Callable[[Tensor, Tensor, float], Tensor]


def _of_torch(x: Tensor, gate: Tensor, eps: float) -> Tensor:
    return rms_norm(x, eps) * silu(gate)


def _triton() -> Function:
    from flowgression.ops.gated_norm_triton import gated_norm_triton

    return gated_norm_triton


def _triton_refuses(x: Tensor, gate: Tensor) -> str | None:
    if x.dtype != gate.dtype or x.shape != gate.shape:
        return f"it takes two tensors of one shape and dtype, got {x.dtype} and {gate.dtype}"
    if x.shape[-1] > _WIDEST:
        return f"it is made for widths up to {_WIDEST}, got {x.shape[-1]}"
    return triton_support.refuses(x, gate, dtypes=_DTYPES)


GATED_NORM: Operation[Function] = Operation(
    "gated norm",
    {
        "torch": Backend(lambda: _of_torch),
        "triton": Backend(_triton, refuses=_triton_refuses, suits=triton_support.on_gpu),
    },
)


def gated_norm(x: Tensor, gate: Tensor, eps: float = EPS, *, backend: str | None = None) -> Tensor:
    """x / sqrt(mean(x^2) + eps) silu(gate), for x and gate [..., d], the mean over the last dimension.

    Args:
        backend: "torch" or "triton" (NVIDIA GPUs, not float64, differentiable once). None: triton where it can be used,
            unless FLOWGRESSION_KERNELS=off or torch.compile makes a graph, which fuses by itself.

    Raises:
        InputError: a backend that does not exist or cannot be used here.
    """
    if backend is None and torch.compiler.is_compiling():
        return _of_torch(x, gate, eps)
    return GATED_NORM.choose(backend, x, gate)(x, gate, eps)
