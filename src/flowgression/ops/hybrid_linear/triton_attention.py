"""Hybrid attention with its state in registers: the Triton kernels of triton_kernels.py beside torch's attention.

B: sequences, S: images, N: tokens of an image, A: heads, d: head width.
"""

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable
from torch.nn.functional import scaled_dot_product_attention

from flowgression.ops.hybrid_linear.kinds import State, check_inputs
from flowgression.ops.hybrid_linear.triton_kernels import backward_kernel, forward_kernel

_TOKENS = 16  # of a step
_NUMBERS = 2048  # of the state that a program holds
_OPTIONS = {"num_stages": 1, "enable_fp_fusion": True}
_FORWARD, _BACKWARD = ({"num_warps": warps, **_OPTIONS} for warps in (4, 8))  # with which ptxas spills no register


def hybrid_attention_triton(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    state: State = None,
    *,
    context: str = "hybrid",
    return_state: bool = True,
) -> tuple[Tensor, State]:
    """See `chunk.hybrid_attention_chunk`; for context "hybrid" alone, and differentiable once."""
    check_inputs(q, k, v, gate, state, context)
    assert context == "hybrid"  # the backend refuses others
    batch = q.shape[0]
    q, k, v = (x.to(v.dtype).contiguous() for x in (q, k, v))
    start = state.float() if isinstance(state, Tensor) else None
    with torch.autocast(q.device.type, enabled=False):
        cross, final = _Cross.apply(q, k, v, gate.float().contiguous(), start)
        q, k, v = (x.flatten(0, 1).transpose(1, 2) for x in (q, k, v))
        out = scaled_dot_product_attention(q, k, v, scale=1.0).transpose(1, 2).unflatten(0, (batch, -1))
    return out + cross, final if return_state else None


class _Cross(torch.autograd.Function):
    """What the tokens read from the state, [B, S, N, A, d], and the state behind the last image, [B, A, d, d]."""

    @staticmethod
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, gate: Tensor, start: Tensor | None) -> tuple[Tensor, Tensor]:
        keep = any(ctx.needs_input_grad)
        batch, images, tokens, heads, d = q.shape
        found = gate.new_empty(batch, heads, images if keep else 0, d, d)
        out, final = torch.empty_like(v), gate.new_empty(batch, heads, d, d)
        sizes = _sizes(d)
        with torch.cuda.device_of(q):
            forward_kernel[batch * heads, _parts(d)](
                q, k, v, gate, gate if start is None else start.contiguous(), out, found, final, images, tokens, heads,
                **sizes, ZERO=start is None, KEEP=keep, **_FORWARD,
            )  # fmt: skip
        ctx.save_for_backward(q, k, v, gate, found)
        ctx.set_materialize_grads(False)
        return out, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_out: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
        q, k, v, gate, found = ctx.saved_tensors
        batch, images, tokens, heads, d = q.shape
        parts = _parts(d)
        grad_out = torch.zeros_like(v) if grad_out is None else grad_out.contiguous()
        grad_q, grad_k = (gate.new_empty(parts, *q.shape) for _ in range(2))
        grad_v, grad_start = gate.new_empty(q.shape), gate.new_empty(batch, heads, d, d)
        reach, mean = gate.new_empty(parts, *gate.shape), gate.new_empty(parts, batch, heads, images)
        with torch.cuda.device_of(q):
            backward_kernel[batch * heads, parts](
                q, k, v, gate, found, grad_out, gate if grad_final is None else grad_final.contiguous(),
                grad_q, grad_k, grad_v, reach, mean, grad_start, images, tokens, heads, q.numel(),
                **_sizes(d), ZERO=grad_final is None, **_BACKWARD,
            )  # fmt: skip
        # A token's gate is in the sums of all later tokens of its image, and in the mean.
        grad_gate = reach.sum(0).flip(2).cumsum(2).flip(2) + mean.sum(0).transpose(1, 2)[:, :, None] / tokens
        grads = [x.to(v.dtype) for x in (grad_q.sum(0), grad_k.sum(0), grad_v)]
        return *grads, grad_gate, grad_start if ctx.needs_input_grad[4] else None


def _width(d: int) -> int:
    return max(16, 1 << (d - 1).bit_length())


def _sizes(d: int) -> dict[str, int]:
    return {"D": d, "WIDTH": _width(d), "COLUMNS": min(_width(d), _NUMBERS // _width(d)), "TOKENS": _TOKENS}


def _parts(d: int) -> int:
    """Programs that share the columns of one state."""
    return -(-d // _sizes(d)["COLUMNS"])
