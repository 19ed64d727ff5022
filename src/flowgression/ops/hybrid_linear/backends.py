"""Hybrid linear attention in the backend that suits the inputs.

B: sequences, S: images of a sequence, N: tokens of an image, A: heads, d: head width.
"""

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from flowgression.ops import triton_support
from flowgression.ops.backends import Backend, Operation
from flowgression.ops.hybrid_linear.chunk import hybrid_attention_chunk
from flowgression.ops.hybrid_linear.kinds import State
from flowgression.ops.hybrid_linear.naive import hybrid_attention_naive
from flowgression.ops.hybrid_linear.recurrent import hybrid_attention_recurrent

_WIDEST = 128  # heads whose states fit in registers, by columns
_DTYPES = (torch.float32, torch.bfloat16, torch.float16)
Function = Callable[..., tuple[Tensor, State]]


def _triton() -> Function:
    from flowgression.ops.hybrid_linear.triton_attention import hybrid_attention_triton

    return hybrid_attention_triton


def _triton_refuses(q: Tensor, *others: Tensor, context: str) -> str | None:
    if context != "hybrid":
        return f"it is made for the context 'hybrid', got {context!r}"
    if q.shape[-1] > _WIDEST:
        return f"it is made for head widths up to {_WIDEST}, got {q.shape[-1]}"
    return triton_support.refuses(q, *others, dtypes=_DTYPES)


HYBRID: Operation[Function] = Operation(
    "hybrid attention",
    {
        "chunk": Backend(lambda: hybrid_attention_chunk),
        "recurrent": Backend(lambda: hybrid_attention_recurrent),
        "naive": Backend(lambda: hybrid_attention_naive),
        "triton": Backend(_triton, refuses=_triton_refuses, suits=triton_support.on_gpu),
    },
)


def hybrid_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    state: State = None,
    *,
    context: str = "hybrid",
    return_state: bool = True,
    backend: str | None = None,
) -> tuple[Tensor, State]:
    """See `chunk.hybrid_attention_chunk` for all but `backend`.

    Args:
        backend: "chunk", "recurrent", "naive" or "triton" (context "hybrid" on NVIDIA GPUs, not float64, differentiable
            once). None: triton where it can be used, unless FLOWGRESSION_KERNELS=off or torch.compile makes a graph,
            which fuses by itself; else chunk.

    Raises:
        InputError: also for a backend that does not exist or cannot be used here.
    """
    settings: dict[str, Any] = {"context": context, "return_state": return_state}
    if backend is None and torch.compiler.is_compiling():
        return hybrid_attention_chunk(q, k, v, gate, state, **settings)
    tensors = (q, k, v, gate, state) if isinstance(state, Tensor) else (q, k, v, gate)
    return HYBRID.choose(backend, *tensors, context=context)(q, k, v, gate, state, **settings)
