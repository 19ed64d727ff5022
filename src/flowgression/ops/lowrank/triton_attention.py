"""Low-rank attention by the kernels of triton_kernels.py: as torch_attention.py, with its features in registers.

Same arguments, results, blocks and roundings, so the certificate holds. Letters as in polynomial.py.
"""

from collections.abc import Sequence
from functools import lru_cache

import torch
from torch import Tensor

from flowgression.ops.lowrank.features import exponents, rank
from flowgression.ops.lowrank.summation import BLOCK
from flowgression.ops.lowrank.tables import derivative_table, weight_table
from flowgression.ops.lowrank.triton_kernels import differentiate_kernel, fold_kernel, read_kernel
from flowgression.ops.modes import outside_of_modes

_PROGRAMS = 2048  # of a fold: enough to fill any GPU, few enough that their partial sums are small
_SMALLEST_PIECE = 256  # tokens of a fold's program
_THREADS = 32  # of a program; heads are the first dimension of its grid, the only one that may exceed 65,535
_OPTIONS = {"num_warps": _THREADS // 32, "enable_fp_fusion": True}
_SUMS = 36  # that a thread keeps, in float32 and in float64: more would not fit in its registers


def attend(
    q: Tensor, k: Tensor, v: Tensor, initial: Tensor, degree: int, bound: float, lengths: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `torch_attention.attend`; all tensors in float32, and degree <= 8."""
    lengths = tuple(lengths)
    sums = fold(k, v, None, lengths or (k.shape[1],), degree).cumsum(0)  # scale l reads the tokens of the scales 0..l
    weights = weight_table(k.shape[-1], degree, bound, k, sums.dtype)
    states = torch.addcmul(initial.to(sums.dtype), sums, weights).to(k.dtype)
    output, normaliser = read(q, states, lengths or (q.shape[1],), degree, divide=True)
    return output, states[-1].clone(), states, normaliser


def attend_backward(
    grad_output: Tensor | None,
    grad_final: Tensor | None,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    states: Tensor,
    output: Tensor,
    normaliser: Tensor,
    degree: int,
    bound: float,
    lengths: Sequence[int],
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `torch_attention.attend_backward`."""
    of_queries, of_keys = (tuple(lengths) or (x.shape[1],) for x in (q, k))
    grad_output = torch.zeros_like(output) if grad_output is None else grad_output
    grad_u = grad_output / normaliser
    grad_d = -(grad_u * output).sum(-1)
    grad_q = differentiate(q, states, grad_u, grad_d, of_queries, degree)
    grad_states = fold(q, grad_u, grad_d, of_queries, degree)
    if grad_final is not None:
        grad_states[-1] += grad_final
    grad_states = grad_states.flip(0).cumsum(0).flip(0)  # scale l is read by the scales l, l+1, ...
    grad_initial = grad_states[0].to(q.dtype)
    grad_states = (grad_states * weight_table(k.shape[-1], degree, bound, k, grad_states.dtype)).to(q.dtype)
    grad_k = differentiate(k, grad_states, v, None, of_keys, degree)
    return grad_q, grad_k, read(k, grad_states, of_keys, degree, divide=False)[0], grad_initial


def fold(x: Tensor, values: Tensor, last: Tensor | None, lengths: tuple[int, ...], degree: int) -> Tensor:
    """phi(X)^T [values, last] of every scale on its own, float64 [L, H, r, e + 1]; ones take the place of last None.

    x [H, T, d], values [H, T, e], last [H, T].
    """
    x, values = x.contiguous(), values.contiguous()
    heads, tokens, d = x.shape
    e, r = values.shape[-1], rank(d, degree)
    rows = _rows(e)
    tiles = -(-r // rows)
    size = max(_SMALLEST_PIECE, -(-tokens * heads * tiles // _PROGRAMS // BLOCK) * BLOCK)
    pieces, counts = _pieces(lengths, size, x.device)
    sums = x.new_empty(len(pieces), heads, r, e + 1, dtype=torch.float64)
    with torch.cuda.device_of(x):
        fold_kernel[heads, tiles, len(pieces)](
            x, values, x if last is None else last.contiguous(), _codes(d, degree, x.device), pieces, sums, tokens, r,
            D=d, E=e, G=degree, ROWS=rows, BLOCK=BLOCK, ONES=last is None, **_OPTIONS,
        )  # fmt: skip
    return torch.stack([part.sum(0) for part in sums.split(counts)])


def read(x: Tensor, states: Tensor, lengths: tuple[int, ...], degree: int, *, divide: bool) -> tuple[Tensor, Tensor]:
    """[U, D] = phi(x) S with the state [r, e + 1] of the scale of x [H, T, d]: U / D [H, T, e] and D [H, T, 1].

    Without divide: U, and nothing is written into the other.
    """
    heads, tokens, d = x.shape
    e, r = states.shape[-1] - 1, rank(d, degree)
    size = _rows(e)
    pieces, _ = _pieces(lengths, size, x.device)
    output, normaliser = x.new_empty(heads, tokens, e), x.new_empty(heads, tokens, 1)
    with torch.cuda.device_of(x):
        read_kernel[heads, len(pieces)](
            x.mT.contiguous(), states.contiguous(), _codes(d, degree, x.device), pieces, output, normaliser, tokens, r,
            D=d, E=e, G=degree, TOKENS=size, BLOCK=BLOCK, DIVIDE=divide, **_OPTIONS,
        )  # fmt: skip
    return output, normaliser


def differentiate(
    x: Tensor, states: Tensor, values: Tensor, last: Tensor | None, lengths: tuple[int, ...], degree: int
) -> Tensor:
    """Gradient by x [H, T, d] of sum([values, last] * (phi(x) S)); ones take the place of last None."""
    heads, tokens, d = x.shape
    e, r = values.shape[-1], rank(d, degree)
    size = _rows(e)
    pieces, _ = _pieces(lengths, size, x.device)
    index, factors = derivative_table(d, degree, x)
    grad = x.new_empty(heads, d, tokens)
    with torch.cuda.device_of(x):
        differentiate_kernel[heads, len(pieces), d](
            x.mT.contiguous(), states.contiguous(), values.mT.contiguous(), x if last is None else last.contiguous(),
            _codes(d, degree, x.device), index, factors, pieces, grad, tokens, r, len(index),
            D=d, E=e, G=degree - 1, TOKENS=size, BLOCK=BLOCK, ONES=last is None, **_OPTIONS,
        )  # fmt: skip
    return grad.mT.contiguous()


def _rows(e: int) -> int:
    """Rows of a program, each with e + 1 sums, all in one thread; a thread takes 1, 2 or 4."""
    return _THREADS * next(rows for rows in (4, 2, 1) if rows * (e + 1) <= _SUMS or rows == 1)


@lru_cache(maxsize=64)
def _codes(d: int, degree: int, device: torch.device) -> Tensor:
    """The places of the factors of every monomial, eight bits each, int64 [r]; d where a factor is 1."""
    with outside_of_modes():
        places = torch.full((rank(d, degree), degree), d, dtype=torch.int64)
        powers = exponents(d, degree)
        first = powers.cumsum(1) - powers  # which factor a variable begins with
        for factor in range(degree):
            row, variable = ((first <= factor) & (factor < first + powers)).nonzero(as_tuple=True)
            places[row, factor] = variable
        return (places << 8 * torch.arange(degree)).sum(1).to(device)


@lru_cache(maxsize=256)
def _pieces(lengths: tuple[int, ...], size: int, device: torch.device) -> tuple[Tensor, list[int]]:
    """The tokens of every scale cut into pieces of at most `size`, int32 [P, 3]: scale, first token, end; and how many
    pieces each scale has.
    """
    found, counts, start = [], [], 0
    for scale, length in enumerate(lengths):
        stop = start + length
        found += [(scale, first, min(first + size, stop)) for first in range(start, stop, size)]
        counts.append(-(-length // size))
        start = stop
    with outside_of_modes():
        return torch.tensor(found, dtype=torch.int32).to(device), counts
