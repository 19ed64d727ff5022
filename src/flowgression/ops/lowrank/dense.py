"""Polynomial attention by its logits, in as few passes over them as there are. Letters as in types.py.

Degree 2 by completing the square: P(x) / c_2 = (x + h)^2 + e with h = c_1 / (2 c_2) and e = c_0 / c_2 - h^2, and e > 0
since P has no root. The quotient of the sums does not see the factor c_2, and sum_j (a_ij + e) v_j = (a v)_i +
e sum_j v_j takes e out of the matrix. So two passes, + h and the square, stand where Horner's rule has four.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgression.ops.lowrank.minimax import horner
from flowgression.ops.lowrank.summation import wide_matmul, wide_sum, with_ones


def dense_attention(
    q: Tensor, k: Tensor, v: Tensor, coefficients: Sequence[float], seen: Tensor | None = None
) -> Tensor:
    """P(q k^T) v with rows divided by their sums, over the keys that are `seen` [M, N]; sums in blocks (lemma 4).

    coefficients: c_0..c_g of P, positive everywhere.
    """
    values, logits = with_ones(v), q @ k.mT
    if len(coefficients) != 3:
        return _quotient(wide_matmul(_masked(horner(coefficients, logits), seen), values), v)
    shift, rest = completed_square(coefficients)
    logits = logits.add_(shift)
    squares = logits.square() if torch.is_grad_enabled() else logits.square_()
    if seen is None:
        return _quotient(wide_matmul(squares, values).add(wide_sum(values), alpha=rest), v)
    return _quotient(wide_matmul(_masked(squares.add_(rest), seen), values), v)


def completed_square(coefficients: Sequence[float]) -> tuple[float, float]:
    """h and e of c_0 + c_1 x + c_2 x^2 = c_2 ((x + h)^2 + e)."""
    c0, c1, c2 = coefficients
    shift = c1 / (2 * c2)
    return shift, c0 / c2 - shift**2


def _masked(kernel: Tensor, seen: Tensor | None) -> Tensor:
    return kernel if seen is None else kernel * seen


def _quotient(sums: Tensor, v: Tensor) -> Tensor:
    return (sums[..., :-1] / sums[..., -1:]).to(v.dtype)
