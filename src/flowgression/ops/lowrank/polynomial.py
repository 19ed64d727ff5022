"""Polynomial attention through its low rank: time and memory linear in the number of tokens.

With phi the monomials of features.py and w_a = c_|a| |a|!/a!, the polynomial of a logit factors:
P(scale q.k) = sum_a w_a phi_a(scale q) phi_a(k). So all keys fold into one state S = w * phi(K)^T [V, 1], and
[U, D] = phi(scale q) S gives the output U / D (arXiv 2502.16490, after Alman and Song 2023).

Letters: H heads (all leading dimensions flattened), M queries, N keys, d head width, e value width, g degree,
r = C(d+g, g) rank, L blocks (scales). Features are [r, H, T] for a chunk of T tokens of some heads.
"""

import itertools
import math
import os
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from flowgression.errors import InputError
from flowgression.ops.lowrank.constants import outside_of_modes
from flowgression.ops.lowrank.features import derivatives, exponents, monomials, multinomials, rank
from flowgression.ops.lowrank.minimax import check_degree, minimax_exp
from flowgression.ops.lowrank.types import AttentionResult, check_inputs, logit_scale

# Numbers in one chunk of features: few large steps suit an accelerator, the size of its cache a processor.
_NUMBERS_ON_CPU = 2**20
_NUMBERS_ON_ACCELERATOR = 2**26


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

    Returns:
        output [..., M, e] in the dtype of v, and the state including these tokens (float32 or float64).
        Gradients flow to q, k, v and state, once (no second derivatives).

    Raises:
        InputError: odd degree, bound out of range, shapes or block lengths that do not fit together, or a rank whose
            state does not fit in the memory of the device.
    """
    check_inputs(q, k, v, block_lengths)
    check_degree(degree)
    heads, lengths = q.shape[:-2], tuple(block_lengths or ())
    dtype = torch.float64 if torch.float64 in (q.dtype, k.dtype, v.dtype) else torch.float32
    check_memory(q.shape[-1], v.shape[-1], degree, math.prod(heads) * max(1, len(lengths)), dtype, q.device)
    shape = (rank(q.shape[-1], degree), v.shape[-1] + 1)
    if state is not None and state.shape != (*heads, *shape):
        raise InputError(f"state has shape {tuple(state.shape)}, expected {(*heads, *shape)} for these inputs.")
    initial = q.new_zeros(*heads, *shape, dtype=dtype) if state is None else state
    flat = [x.to(dtype).reshape(-1, *x.shape[-2:]) for x in (q, k, v, initial)]
    weights = _weights(q.shape[-1], degree, float(bound), dtype, q.device)
    flat[0] = flat[0] * logit_scale(scale, q)
    output, final = _PolynomialAttention.apply(*flat, weights, degree, lengths)
    return AttentionResult(output.view(*q.shape[:-1], -1).to(v.dtype), final.view(*heads, *shape))


class _PolynomialAttention(torch.autograd.Function):
    """q [H, M, d] already scaled, k [H, N, d], v [H, N, e], S [H, r, e+1] -> output [H, M, e], S [H, r, e+1].

    Features are never kept: the backward pass makes them again, chunk by chunk, from the queries and keys.
    """

    @staticmethod
    def forward(
        ctx: Any,
        q: Tensor,
        k: Tensor,
        v: Tensor,
        initial: Tensor,
        weights: Tensor,
        degree: int,
        lengths: tuple[int, ...],
    ) -> tuple[Tensor, Tensor]:
        with torch.autocast(q.device.type, enabled=False):
            states = _fold(k, _with_ones(v), lengths, degree).mul_(weights)
            states[0] += initial
            for block in range(1, len(states)):  # block l reads S_l = S_{l-1} + its own tokens
                states[block] += states[block - 1]
            read = _read(q, states, lengths, degree)
        normaliser = read[:, -1:].mT.contiguous()
        output = (read[:, :-1] / read[:, -1:]).mT.contiguous()
        ctx.save_for_backward(q, k, v, states, output, normaliser, weights)
        ctx.degree, ctx.lengths = degree, lengths
        return output, states[-1].clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_output: Tensor, grad_final: Tensor) -> tuple[Tensor | None, ...]:
        q, k, v, states, output, normaliser, weights = ctx.saved_tensors
        degree, lengths = ctx.degree, ctx.lengths
        with torch.autocast(q.device.type, enabled=False):
            grad_u = grad_output / normaliser
            grad_read = torch.cat([grad_u, -(grad_u * output).sum(-1, keepdim=True)], -1)  # of [U, D]
            grad_q = _differentiate(q, states, grad_read, lengths, degree)
            grad_states = _fold(q, grad_read, lengths, degree)
            grad_states[-1] += grad_final
            for block in reversed(range(len(grad_states) - 1)):  # block l is read by the blocks l, l+1, ...
                grad_states[block] += grad_states[block + 1]
            grad_initial = grad_states[0].clone()
            grad_states *= weights
            grad_k = _differentiate(k, grad_states, _with_ones(v), lengths, degree)
            grad_v = _read(k, grad_states, lengths, degree)[:, :-1].mT
        return grad_q, grad_k, grad_v, grad_initial, None, None, None


def _with_ones(v: Tensor) -> Tensor:
    return torch.cat([v, torch.ones_like(v[..., :1])], -1)


def _fold(x: Tensor, y: Tensor, lengths: tuple[int, ...], degree: int) -> Tensor:
    """phi(X)^T Y of every block on its own, [L, H, r, f], for x [H, T, d] and y [H, T, f]."""
    heads, _, d = x.shape
    states = x.new_zeros(max(1, len(lengths)), heads, rank(d, degree), y.shape[-1])
    for chunk, features in _features(x, lengths, degree):
        for block, tokens, local in chunk.pieces:
            states[block, chunk.heads].baddbmm_(features[..., local].transpose(0, 1), y[chunk.heads, tokens])
    return states


def _read(x: Tensor, states: Tensor, lengths: tuple[int, ...], degree: int) -> Tensor:
    """S^T phi(x), with the state [r, f] of the block of x, for x [H, T, d]; [H, f, T]."""
    read = x.new_empty(x.shape[0], states.shape[-1], x.shape[1])
    for chunk, features in _features(x, lengths, degree):
        for block, tokens, local in chunk.pieces:
            read[chunk.heads, :, tokens] = states[block, chunk.heads].mT @ features[..., local].transpose(0, 1)
    return read


def _differentiate(x: Tensor, states: Tensor, y: Tensor, lengths: tuple[int, ...], degree: int) -> Tensor:
    """Gradient by x [H, T, d] of sum(y * (phi(x) S)), y [H, T, f]: the state is differentiated, not the features."""
    d, f = x.shape[-1], y.shape[-1]
    index, factor = _derivatives(d, degree, x.dtype, x.device)
    grad = torch.empty_like(x)
    for chunk, features in _features(x, lengths, degree - 1):
        for block, tokens, local in chunk.pieces:
            slopes = (states[block, chunk.heads][:, index] * factor).flatten(2)  # [H, r', d f]
            by_x = (slopes.mT @ features[..., local].transpose(0, 1)).unflatten(1, (d, f))  # [H, d, f, T]
            grad[chunk.heads, tokens] = (by_x * y[chunk.heads, None, tokens].mT).sum(2).mT
    return grad


class _Chunk(NamedTuple):
    """Some heads and tokens, whose features fit in fast memory, and the pieces of blocks among these tokens."""

    heads: slice
    tokens: slice
    pieces: list[tuple[int, slice, slice]]  # block, its tokens, the same counted from the start of the chunk


def _chunks(heads: int, count: int, size: int, lengths: tuple[int, ...]) -> Iterator[_Chunk]:
    """Cut `count` tokens of `heads` heads into chunks of about `size` tokens, all heads counted."""
    tokens = min(count, max(64, size))
    group = max(1, size // tokens)
    ends = list(itertools.accumulate(lengths or (count,)))
    for start in range(0, count, tokens):
        stop = min(count, start + tokens)
        pieces = []
        for block, (begin, end) in enumerate(itertools.pairwise([0, *ends])):
            low, high = max(begin, start), min(end, stop)
            if low < high:
                pieces.append((block, slice(low, high), slice(low - start, high - start)))
        for head in range(0, heads, group):
            yield _Chunk(slice(head, min(heads, head + group)), slice(start, stop), pieces)


def _features(x: Tensor, lengths: tuple[int, ...], degree: int) -> Iterator[tuple[_Chunk, Tensor]]:
    """The chunks of x [H, T, d], each with its features [r, heads, tokens], valid until the next is asked for."""
    heads, count, d = x.shape
    r = rank(d, degree)
    budget = _NUMBERS_ON_CPU if x.device.type == "cpu" else _NUMBERS_ON_ACCELERATOR
    buffer = x.new_empty(0)
    for chunk in _chunks(heads, count, budget // r, lengths):
        rows = x[chunk.heads, chunk.tokens].permute(2, 0, 1).contiguous()
        needed = r * rows[0].numel()
        if buffer.numel() < needed:  # the first chunk is the largest; a fresh buffer each time costs page faults
            buffer = x.new_empty(needed)
        yield chunk, monomials(rows, degree, buffer[:needed].view(r, *rows.shape[1:]))


@lru_cache(maxsize=64)
def _weights(d: int, degree: int, bound: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    """w_a = c_|a| |a|!/a!, [r, 1]."""
    coefficients = minimax_exp(degree, bound).coefficients
    with outside_of_modes():
        c = torch.tensor(coefficients, dtype=torch.float64)
        weights = c[exponents(d, degree).sum(1)] * multinomials(d, degree)
        return weights[:, None].to(device=device, dtype=dtype)


@lru_cache(maxsize=64)
def _derivatives(d: int, degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    """`derivatives` on the device: index [r', d] and factor [r', d, 1]."""
    with outside_of_modes():
        index, factor = derivatives(d, degree)
        return index.to(device), factor[..., None].to(device=device, dtype=dtype)


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
            "Lower the degree, use narrower heads (8 or 16 pay), or use exact attention."
        )


@lru_cache(maxsize=16)
def _memory(device: torch.device) -> float:
    """Bytes of memory of the device; infinite where that cannot be asked."""
    if device.type == "cuda":
        return torch.cuda.get_device_properties(device).total_memory
    if device.type == "cpu" and hasattr(os, "sysconf"):
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    return math.inf
