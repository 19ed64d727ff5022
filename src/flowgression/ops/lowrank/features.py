"""The feature map whose inner products are polynomials: all monomials up to a degree, built without a gather.

Letters: d variables (head width), g degree, r = C(d+g, g) monomials, ... any trailing dimensions (heads, tokens).

Monomials are graded by degree and, within a degree, by their largest variable. Those of degree j whose largest variable
is i are then x_i times a *prefix* of the monomials of degree j-1 (the ones in variables 0..i), so every step is one
multiplication of a slice. The layout is feature-major, [r, ...]: slices are contiguous rows whatever the trailing size.
"""

import math
from collections.abc import Iterator
from functools import lru_cache

import torch
from torch import Tensor

from flowgression.ops.modes import outside_of_modes


def rank(head_dim: int, degree: int) -> int:
    """Number of monomials of degree at most `degree` in `head_dim` variables, C(d+g, g): the rank of the kernel.

    >>> from flowgression.ops import rank
    >>> rank(head_dim=8, degree=2), rank(head_dim=64, degree=2)
    (45, 2145)
    """
    return math.comb(head_dim + degree, degree)


def _prefix(j: int, i: int) -> int:
    """Number of monomials of degree exactly j in the variables 0..i-1, i >= 1 if j = 0."""
    return math.comb(i + j - 1, j) if i else 0


def _slices(d: int, degree: int, lowest: int = 1) -> Iterator[tuple[int, int, slice, slice]]:
    """(degree j, variable i, source, target) such that features[target] = x_i * features[source], in order."""
    for j in range(lowest, degree + 1):
        source, target = rank(d, j - 2) if j > 1 else 0, rank(d, j - 1)  # where the degrees j-1 and j begin
        for i in range(d):
            rows = slice(target + _prefix(j, i), target + _prefix(j, i + 1))
            yield j, i, slice(source, source + _prefix(j - 1, i + 1)), rows


def monomials(x: Tensor, degree: int, out: Tensor | None = None) -> Tensor:
    """All monomials x^a with |a| <= degree, [r, ...], of x [d, ...], degree >= 1; into `out` [r, ...] if given."""
    d = x.shape[0]
    if out is None:
        out = x.new_empty(rank(d, degree), *x.shape[1:])
    out[0] = 1
    out[1 : 1 + d] = x
    for _, i, source, target in _slices(d, degree, lowest=2):
        torch.mul(out[source], x[i], out=out[target])
    return out


@lru_cache(maxsize=32)
def exponents(d: int, degree: int) -> Tensor:
    """The exponents a of every monomial, int64 [r, d]."""
    with outside_of_modes():
        table = torch.zeros(rank(d, degree), d, dtype=torch.int64)
        for _, i, source, target in _slices(d, degree):
            table[target] = table[source]
            table[target, i] += 1
        return table


def multinomials(d: int, degree: int) -> Tensor:
    """|a|!/a! of every monomial, float64 [r]; with these weights (q.k)^j is the sum of q^a k^a over |a| = j.

    Exact up to degree 18, where 18! < 2^53; beyond, each of at most g + 2 steps rounds once.
    """
    a = exponents(d, degree)
    factorials = torch.tensor([float(math.factorial(j)) for j in range(degree + 1)], dtype=torch.float64)
    return factorials[a.sum(1)] / factorials[a].prod(1)


@lru_cache(maxsize=32)
def derivatives(d: int, degree: int) -> tuple[Tensor, Tensor]:
    """How to differentiate a polynomial that is given by the coefficients s_a, [r], of its monomials.

    Returns `index` and `factor`, int64 [r', d] with r' = C(d+g-1, g-1): the derivative by x_i has the coefficients
    factor[b, i] * s[index[b, i]], where b runs over the monomials of degree below g (the first r' of all).
    """
    lower = rank(d, degree - 1)
    with outside_of_modes():
        index = torch.zeros(lower, d, dtype=torch.int64)  # where x_i x^b is found
        index[0] = 1 + torch.arange(d)
        for j, l, source, target in _slices(d, degree - 1):
            begin, after = rank(d, j - 1), rank(d, j)  # where the degrees j and j+1 begin
            # x^b = x_l x^b'. For i < l, x_i x^b is x_l times (x_i x^b'); for i >= l it is x_i times x^b itself.
            index[target, :l] = after + _prefix(j + 1, l) + index[source, :l] - begin
            place = torch.arange(target.start, target.stop) - begin
            for i in range(l, d):
                index[target, i] = after + _prefix(j + 1, i) + place
        return index, exponents(d, degree)[:lower] + 1
