"""What float64 may lose, as theorems, so that a radius never comes out too small.

Assumed: IEEE 754 with rounding to nearest, so fl(a + b) = (a + b)(1 + delta) with |delta| <= UNIT, products likewise
but for underflow; sums and matrix products in any order, with or without fused multiply-add (so n terms lose at most
gamma(n) of the sum of their absolute values; Higham 2002, section 3.1); and elementary functions (exp, erf, tanh,
atanh, sqrt, rsqrt) within four units in the last place.
"""

import torch
from torch import Tensor

UNIT = 2.0**-53
FUNCTION = 8 * UNIT  # relative error of an elementary function: a unit in the last place is at most 2 UNIT
TINY = 1e-150  # more than any square, product or quotient here can lose by underflow: sqrt(2^-1022) is 1.5e-154


def gamma(count: int) -> float:
    """n UNIT / (1 - n UNIT): the relative error of n roundings."""
    return count * UNIT / (1 - count * UNIT)


def upward(x: Tensor, operations: int = 16) -> Tensor:
    """At least what x >= 0 stands for, if at most so many roundings, each of a term >= 0, made it."""
    return x * (1 + 2 * gamma(operations + 2)) + TINY


def length(x: Tensor) -> Tensor:
    """At least |x|_2 over the last dimension."""
    return upward(x.norm(dim=-1), x.shape[-1] + 8)


def shortest(x: Tensor, radius: Tensor) -> Tensor:
    """At most the length of anything in the ball of this radius around x, >= 0."""
    below = x.norm(dim=-1) * (1 - 2 * gamma(x.shape[-1] + 8)) - TINY
    return ((below - radius) * (1 - 4 * UNIT) - 4 * UNIT * radius).clamp(min=0)


def frobenius(matrix: Tensor) -> Tensor:
    """At least |W|_F over the last two dimensions."""
    return length(matrix.flatten(-2))


def spectral_norm(matrix: Tensor) -> Tensor:
    """At least |W|_2 over the last two dimensions [..., m, n], whatever the decomposition it is read off is worth.

    W = U S V^T + E, so |W| <= |U| |S| |V| + |E|; |U|^2 = |U^T U| <= 1 + |U^T U - 1|_F. Both rests are computed, and
    what computing them loses is added.
    """
    matrix = matrix.double()
    left, values, right = torch.linalg.svd(matrix, full_matrices=False)
    rest = frobenius(matrix - (left * values[..., None, :]) @ right)
    largest = values.amax(-1)
    lost = gamma(values.shape[-1] + 4) * frobenius(left) * frobenius(right) * largest + 2 * UNIT * frobenius(matrix)
    stretch = (1 + _skewness(left)) * (1 + _skewness(right.mT))
    return upward(stretch.sqrt() * largest + rest + lost, 32)


def _skewness(columns: Tensor) -> Tensor:
    """At least |U^T U - 1|_F of U [..., m, k]."""
    one = torch.eye(columns.shape[-1], dtype=columns.dtype)
    found = frobenius(columns.mT @ columns - one)
    return upward(found + gamma(columns.shape[-2] + 4) * (frobenius(columns).square() + 1))
