"""Low-rank attention on flat tensors, forward and backward: what autograd and torch.compile both call.

Letters as in polynomial.py. Features are never kept: the backward pass makes them again, chunk by chunk.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgression.ops.lowrank.folding import differentiate, fold, read
from flowgression.ops.lowrank.summation import full_precision, with_ones
from flowgression.ops.lowrank.tables import weight_table


def attend(
    q: Tensor, k: Tensor, v: Tensor, initial: Tensor, degree: int, bound: float, lengths: Sequence[int]
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """The computation, which docs/theory-reference.md counts the roundings of.

    Args:
        q: [H, M, d], already scaled; k: [H, N, d]; v: [H, N, e]; initial: S [H, r, e+1]; all of one dtype.

    Returns:
        output [H, M, e], the last state S [H, r, e+1], all states [L, H, r, e+1], normaliser D [H, M, 1].
    """
    lengths = tuple(lengths)
    with full_precision(q.device):
        sums = fold(k, with_ones(v), lengths, degree)
        sums.accumulate()  # scale l reads the tokens of the scales 0..l
        wide = sums.value().mT
        weights = weight_table(k.shape[-1], degree, bound, k, wide.dtype)
        states = torch.addcmul(initial.to(wide.dtype), wide, weights).to(k.dtype).contiguous()
        total = read(q, states, lengths, degree).mT
    output = (total[..., :-1] / total[..., -1:]).to(q.dtype).contiguous()
    return output, states[-1].clone(), states, total[..., -1:].to(q.dtype).contiguous()


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
    """Gradients by q, k, v and the initial state; None stands for a gradient of zeros."""
    lengths = tuple(lengths)
    grad_output = torch.zeros_like(output) if grad_output is None else grad_output
    with full_precision(q.device):
        grad_u = grad_output / normaliser
        grad_read = torch.cat([grad_u, -(grad_u * output).sum(-1, keepdim=True)], -1)  # of [U, D]
        grad_q = differentiate(q, states, grad_read, lengths, degree)
        grad_states = fold(q, grad_read, lengths, degree).value().mT.contiguous()
        if grad_final is not None:
            grad_states[-1] += grad_final
        for scale in reversed(range(len(grad_states) - 1)):  # scale l is read by the scales l, l+1, ...
            grad_states[scale] += grad_states[scale + 1]
        grad_initial = grad_states[0].to(q.dtype, copy=True)
        grad_states *= weight_table(k.shape[-1], degree, bound, k, grad_states.dtype)
        grad_states = grad_states.to(q.dtype)
        grad_k = differentiate(k, grad_states, with_ones(v), lengths, degree)
        grad_v = read(k, grad_states, lengths, degree)[:, :-1].mT.to(q.dtype).contiguous()
    return grad_q, grad_k, grad_v, grad_initial
