"""The three loops of low-rank attention over chunks of features: fold tokens, read states, differentiate reads.

Letters as in polynomial.py. Features are [r, H, T] for a chunk of T tokens of some heads; phi are the monomials.
"""

import itertools
from collections.abc import Iterator
from typing import NamedTuple

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from flowgression.ops.lowrank.features import monomials, rank
from flowgression.ops.lowrank.summation import BLOCK, WideSum
from flowgression.ops.lowrank.tables import derivative_table

# Numbers in one chunk of features: few large steps suit an accelerator, the size of its cache a processor.
_NUMBERS_ON_CPU = 2**20
_NUMBERS_ON_ACCELERATOR = 2**26


def fold(x: Tensor, y: Tensor, lengths: tuple[int, ...], degree: int) -> WideSum:
    """phi(X)^T Y of every scale on its own, [L, H, f, r] (transposed), for x [H, T, d] and y [H, T, f]."""
    heads, _, d = x.shape
    states = WideSum((max(1, len(lengths)), heads, y.shape[-1], rank(d, degree)), x.device)
    for chunk, features in _features(x, lengths, degree):
        for scale, tokens, local in chunk.pieces:
            _add_products(states, scale, chunk.heads, y[chunk.heads, tokens].mT, features[..., local].permute(1, 2, 0))
    return states


def _add_products(states: WideSum, scale: int, heads: slice, left: Tensor, right: Tensor) -> None:
    """Add left @ right, [h, f, t] times [h, t, r], multiplied in blocks of at most BLOCK tokens (lemma 2).

    Y^T phi rather than phi^T Y: matrix libraries are three times as fast at the wide result as at the tall one.
    """
    tokens = right.shape[1]
    whole = tokens // BLOCK
    start = 0
    if whole > len(left):  # one product for all blocks of a head, else one for all heads of a block
        start = whole * BLOCK
        for head in range(len(left)):
            blocks = left[head, :, :start].unflatten(1, (whole, BLOCK)).transpose(0, 1)
            products = blocks @ right[head, :start].unflatten(0, (whole, BLOCK))
            states.add((scale, heads.start + head), products)
    for first in range(start, tokens, BLOCK):
        part = slice(first, first + BLOCK)
        states.add((scale, heads), (left[:, :, part] @ right[:, part])[None])


def read(x: Tensor, states: Tensor, lengths: tuple[int, ...], degree: int) -> Tensor:
    """S^T phi(x), with the state [r, f] of the scale of x, for x [H, T, d]; [H, f, T], wide."""
    sums = WideSum((x.shape[0], states.shape[-1], x.shape[1]), x.device)
    for chunk, features in _features(x, lengths, degree):
        for scale, tokens, local in chunk.pieces:
            left, right = states[scale, chunk.heads].mT, features[..., local].transpose(0, 1)
            for first in range(0, len(features), BLOCK):  # lemma 3
                part = slice(first, first + BLOCK)
                sums.add((chunk.heads, slice(None), tokens), (left[..., part] @ right[:, part])[None])
    return sums.value()


def differentiate(x: Tensor, states: Tensor, y: Tensor, lengths: tuple[int, ...], degree: int) -> Tensor:
    """Gradient by x [H, T, d] of sum(y * (phi(x) S)), y [H, T, f]: the state is differentiated, not the features."""
    d, f = x.shape[-1], y.shape[-1]
    index, factor = derivative_table(d, degree, x)
    grad = torch.empty_like(x)
    for chunk, features in _features(x, lengths, degree - 1):
        for scale, tokens, local in chunk.pieces:
            slopes = (states[scale, chunk.heads][:, index] * factor).flatten(2)  # [H, r', d f]
            by_x = (slopes.mT @ features[..., local].transpose(0, 1)).unflatten(1, (d, f))  # [H, d, f, T]
            grad[chunk.heads, tokens] = (by_x * y[chunk.heads, None, tokens].mT).sum(2).mT
    return grad


class _Chunk(NamedTuple):
    """Some heads and tokens, whose features fit in fast memory, and the pieces of scales among these tokens."""

    heads: slice
    tokens: slice
    pieces: list[tuple[int, slice, slice]]  # scale, its tokens, the same counted from the start of the chunk


def _chunks(heads: int, count: int, size: int, lengths: tuple[int, ...]) -> Iterator[_Chunk]:
    """Cut `count` tokens of `heads` heads into chunks of about `size` tokens, all heads counted."""
    tokens = min(count, max(BLOCK, size // BLOCK * BLOCK))
    group = max(1, size // tokens)
    ends = list(itertools.accumulate(lengths or (count,)))
    for start in range(0, count, tokens):
        stop = min(count, start + tokens)
        pieces = []
        for scale, (begin, end) in enumerate(itertools.pairwise([0, *ends])):
            low, high = max(begin, start), min(end, stop)
            if low < high:
                pieces.append((scale, slice(low, high), slice(low - start, high - start)))
        for head in range(0, heads, group):
            yield _Chunk(slice(head, min(heads, head + group)), slice(start, stop), pieces)


def _features(x: Tensor, lengths: tuple[int, ...], degree: int) -> Iterator[tuple[_Chunk, Tensor]]:
    """The chunks of x [H, T, d], each with its features [r, heads, tokens], valid until the next is asked for."""
    heads, count, d = x.shape
    r = rank(d, degree)
    on_cpu = x.device.type == "cpu" and not isinstance(x, FakeTensor)  # plans, without numbers, are for accelerators
    budget = _NUMBERS_ON_CPU if on_cpu else _NUMBERS_ON_ACCELERATOR
    buffer = x.new_empty(0)
    for chunk in _chunks(heads, count, budget // r, lengths):
        rows = x[chunk.heads, chunk.tokens].permute(2, 0, 1).contiguous()
        needed = r * rows[0].numel()
        if buffer.numel() < needed:  # the first chunk is the largest; a fresh buffer each time costs page faults
            buffer = x.new_empty(needed)
        yield chunk, monomials(rows, degree, buffer[:needed].view(r, *rows.shape[1:]))
