"""Products and sums of products: all partial ANDs at once, then one iterated addition.

Letters: m products of a-bit by b-bit numbers, W bits of the sum. Depth 1 + 7 = 8 for every m; m a b ANDs and one
addition, A(m min(a, b) + 1, W) gates (addition.py). A factor that is constant costs no AND: its digits in non-adjacent
form place the other factor's bits.
"""

from collections.abc import Sequence

from flowgression.circuits.arithmetic.addition import add_terms
from flowgression.circuits.arithmetic.number import Number
from flowgression.circuits.builder import Builder, Term

DEPTH = 8
"""Nominal depth of `dot`."""


def product_terms(builder: Builder, a: Number, b: Number, coefficient: int = 1) -> list[Term]:
    """coefficient * a * b as weighted bits. Depth 1, one AND per pair of bits; pairs are shared when a is b."""
    if b.is_constant:
        return a.terms(coefficient * b.lo)
    if a.is_constant:
        return b.terms(coefficient * a.lo)
    if a == b:
        return _square_terms(builder, a, coefficient)
    return [(coefficient * x * y, builder.conjunction(p, q)) for x, p in a.terms() for y, q in b.terms()]


def _square_terms(builder: Builder, a: Number, coefficient: int) -> list[Term]:
    terms = a.terms()
    result = [(coefficient * x * x, p) for x, p in terms]
    for i, (x, p) in enumerate(terms):
        result += [(2 * coefficient * x * y, builder.conjunction(p, q)) for y, q in terms[:i]]
    return result


def product_range(a: Number, b: Number) -> tuple[int, int]:
    if a == b:
        ends = [a.lo * a.lo, a.hi * a.hi]
        return (0 if a.lo <= 0 <= a.hi else min(ends)), max(ends)
    ends = [x * y for x in (a.lo, a.hi) for y in (b.lo, b.hi)]
    return min(ends), max(ends)


def dot(
    builder: Builder, xs: Sequence[Number], ys: Sequence[Number], addends: Sequence[tuple[int, Number]] = ()
) -> Number:
    """sum_i xs[i] ys[i] + sum of integer * addend, exactly. Depth at most 8, m a b + A(m min(a, b) + 1, W) gates; each
    digit of an addend's coefficient makes columns higher by one.
    """
    terms: list[Term] = []
    lo = hi = 0
    for x, y in zip(xs, ys, strict=True):
        terms += product_terms(builder, x, y)
        low, high = product_range(x, y)
        lo, hi = lo + low, hi + high
    for c, z in addends:
        terms += z.terms(c)
        lo, hi = lo + min(c * z.lo, c * z.hi), hi + max(c * z.lo, c * z.hi)
    return add_terms(builder, terms, 0, lo, hi)


def multiply(builder: Builder, a: Number, b: Number) -> Number:
    """Exact product. Depth at most 8, a b + A(min(a, b) + 1, a + b) gates."""
    return dot(builder, [a], [b])
