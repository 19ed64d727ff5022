"""Polynomial attention through its low rank: time and memory linear in the number of tokens.

With phi the monomials of features.py and w_a = c_|a| |a|!/a!, the polynomial of a logit factors:
P(scale q.k) = sum_a w_a phi_a(scale q) phi_a(k). So all keys fold into one state S = w * phi(K)^T [V, 1], and
[U, D] = phi(scale q) S gives the output U / D (arXiv 2502.16490, after Alman and Song 2023).

Letters: H heads (all leading dimensions flattened), M queries, N keys, d head width, e value width, g degree,
r = C(d+g, g) rank, L blocks (scales). Features are [r, H, T] for a chunk of T tokens of some heads.
"""

import math
import os
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowgression.errors import InputError
from flowgression.ops.lowrank.backends import LOWRANK
from flowgression.ops.lowrank.compiled import polynomial_attention
from flowgression.ops.lowrank.features import rank
from flowgression.ops.lowrank.minimax import check_degree
from flowgression.ops.lowrank.types import AttentionResult, check_inputs, computing_dtype, logit_scale


def lowrank_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    degree: int,
    bound: float,
    scale: float | None = None,
    block_lengths: Sequence[int] | None = None,
    state: Tensor | None = None,
    backend: str | None = None,
) -> AttentionResult[Tensor]:
    """Softmax attention with exp replaced by its minimax polynomial, in time O((M + N) r e) per head.

    Computed in float32, also under autocast and for half-precision inputs (in float64 if an input is float64).
    `error_certificate` bounds the distance from softmax as long as |scale q.k| <= bound, which is not checked here.

    Args:
        q: queries [..., M, d], any float dtype.
        k: keys [..., N, d].
        v: values [..., N, e].
        degree: g, even, >= 2.
        bound: B in (0, 12], the largest |scale q.k| the polynomial is made for; tau for unit vectors and scale=tau.
        scale: factor on the logits; 1/sqrt(d) by default.
        block_lengths: tokens of each scale, in order, adding up to M = N. A query then sees its own block and all
            earlier ones (attention is bidirectional inside a block). None: every query sees every key.
        state: S [..., r, e+1] from the call for the scales before these tokens; constant size, in place of a cache.
        backend: "torch"; or "triton", kernels for NVIDIA GPUs which keep the features in registers and take no float64.
            None: triton where it can be used, unless FLOWGRESSION_KERNELS=off. The results agree up to floating-point
            error.

    Returns:
        output [..., M, e] in the dtype of v, and the state including these tokens (float32 or float64).
        Gradients flow to q, k, v and state, once (no second derivatives).

    Raises:
        InputError: odd degree, bound out of range, shapes or block lengths that do not fit together, a rank whose
            state does not fit in the memory of the device, or a backend that cannot be used here.
    """
    check_inputs(q, k, v, block_lengths)
    check_degree(degree)
    heads, lengths = q.shape[:-2], tuple(block_lengths or ())
    dtype = computing_dtype(q, k, v)
    if not torch.compiler.is_compiling():
        check_memory(q.shape[-1], v.shape[-1], degree, math.prod(heads) * max(1, len(lengths)), dtype, q.device)
    shape = (rank(q.shape[-1], degree), v.shape[-1] + 1)
    if state is not None and state.shape != (*heads, *shape):
        raise InputError(f"state has shape {tuple(state.shape)}, expected {(*heads, *shape)} for these inputs.")
    initial = q.new_zeros(*heads, *shape, dtype=dtype) if state is None else state
    flat = [x.to(dtype).reshape(-1, *x.shape[-2:]) for x in (q, k, v, initial)]
    flat[0] = flat[0] * logit_scale(scale, q)
    if torch.compiler.is_compiling():
        output, final, *_ = polynomial_attention(*flat, degree, float(bound), lengths, backend)
    else:
        output, final = _PolynomialAttention.apply(*flat, degree, float(bound), lengths, backend)
    return AttentionResult(output.view(*q.shape[:-1], -1).to(v.dtype), final.view(*heads, *shape))


class _PolynomialAttention(torch.autograd.Function):
    """A backend with its gradient; that of torch is seen through by counters of operations and of memory."""

    @staticmethod
    def forward(ctx: Any, *args: Any) -> tuple[Tensor, Tensor]:
        *attention, backend = args
        q, k, v, initial, degree, bound, lengths = attention
        passes = LOWRANK.choose(backend, q, k, v, initial, degree=degree)
        output, final, states, normaliser = passes.forward(*attention)
        ctx.save_for_backward(q, k, v, states, output, normaliser)
        ctx.polynomial, ctx.backward_pass = (degree, bound, lengths), passes.backward
        ctx.set_materialize_grads(False)
        return output, final

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor | None, grad_final: Tensor | None) -> tuple[Tensor | None, ...]:
        gradients = ctx.backward_pass(grad_output, grad_final, *ctx.saved_tensors, *ctx.polynomial)
        return *gradients, None, None, None, None


def check_memory(
    head_dim: int, value_dim: int, degree: int, num_states: int, dtype: torch.dtype, device: torch.device
) -> None:
    """Raise InputError if `num_states` states [r, e+1] and one chunk of features exceed the memory of the device."""
    r = rank(head_dim, degree)
    needed = r * (num_states * (value_dim + 1) + 64) * dtype.itemsize
    available = _memory(device)
    if needed > available:
        raise InputError(
            f"degree={degree} at head width {head_dim} has rank C({head_dim + degree}, {degree}) = {r:,}: "
            f"its states need {needed / 2**30:,.1f} GiB and {device} has {available / 2**30:,.1f} GiB. "
            "Lower the degree, use narrower heads (8 or 16 are worth it), or use exact attention."
        )


@lru_cache(maxsize=16)
def _memory(device: torch.device) -> float:
    """Bytes of memory of the device; infinite where that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return math.inf
