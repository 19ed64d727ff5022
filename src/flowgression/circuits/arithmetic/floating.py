"""Floating point at the level of single operations, rounded once, to nearest, ties to even.

A float of p significand and e exponent bits is (-1)^sign m 2^k with m = 0 or 2^(p-1) <= m < 2^p and -2^(e-1) <= k <
2^(e-1): the p-bit floats <r, k> of arXiv 2502.16490, section 3, with the exponent's width a parameter of its own.
Results too large become the largest float of their sign; exact results below the smallest normal float become 0,
whose exponent is the lowest.

Every operation finds its exact result as an integer on a grid of powers of two (quotient and root with a sticky bit
behind, which decides every rounding) and rounds it. The grid has G = 2^e positions and p + G bits, so size is
polynomial for e = O(log n), as the theorem needs; depth is constant. `exponential` alone is not correctly rounded: it
is within one last place.

Sizes in parts, A(h, W) as in addition.py: placing a b-bit number on one of g positions, P(b, g) = g + (b + g) (g + 1)
gates; rounding an L-bit number, R(L) = L (p + 7) + A(3, p + 1) + 2 p + e + 7.
"""

import itertools
import math
from collections.abc import Sequence
from typing import NamedTuple

from flowgression.circuits.arithmetic.addition import add_terms, weighted_sum
from flowgression.circuits.arithmetic.division import divide as integer_divide
from flowgression.circuits.arithmetic.number import Number, input_number, shift_right, width_of
from flowgression.circuits.arithmetic.product import multiply as integer_multiply
from flowgression.circuits.arithmetic.remainder import iterated_product
from flowgression.circuits.arithmetic.select import equals, most_significant_bit, pick
from flowgression.circuits.builder import ONE, ZERO, Bit, Builder, Term, merge, telescope_bits


class Format(NamedTuple):
    """p bits of significand, e bits of exponent."""

    p: int
    e: int

    @property
    def lowest(self) -> int:
        return -(1 << (self.e - 1))

    @property
    def highest(self) -> int:
        return (1 << (self.e - 1)) - 1


class Float(NamedTuple):
    """sign: 1 is negative; magnitude: m, unsigned p bits; exponent: k, signed e bits."""

    sign: Bit
    magnitude: Number
    exponent: Number


def input_float(builder: Builder, form: Format) -> Float:
    """A number given by 1 + p + e fresh inputs: its sign, its magnitude and its exponent, lowest bits first."""
    (sign,) = builder.inputs(1)
    return Float(sign, input_number(builder, form.p, signed=False), input_number(builder, form.e))


# ---- operations ----


def add(builder: Builder, form: Format, *xs: Float) -> Float:
    """The sum of m floats, rounded once. Depth 31 for every m.

    m P(p, G) + m (p + G) gates, A(3 m + 1, L) for the sum, L + A(4, L) for its magnitude, and R(L), with
    L = p + G + log2 m + 1.
    """
    sign, magnitude = _absolute(builder, _sum(builder, form, [(1, x) for x in xs]))
    return round_to(builder, form, sign, magnitude, form.lowest)


def multiply(builder: Builder, form: Format, *xs: Float) -> Float:
    """The product of m floats, rounded once. Depth 31 for every m (two: 22).

    The integers' product (product.py, remainder.py), m + 1 for the sign, A(m + 1, e + log2 m + 1) for the exponent,
    P(m p, m G) and R(m (p + G)).
    """
    if len(xs) == 2:
        product = integer_multiply(builder, xs[0].magnitude, xs[1].magnitude)
    else:
        product = iterated_product(builder, [x.magnitude for x in xs])
    sign = telescope_bits(builder, [(1, x.sign) for x in xs], 1, lambda v: v)[0]
    exponent = weighted_sum(builder, [(1, x.exponent) for x in xs])
    magnitude, offset = _place(builder, product, exponent, exponent.lo, exponent.hi)
    return round_to(builder, form, sign, magnitude, offset)


def divide(builder: Builder, form: Format, a: Float, b: Float) -> Float:
    """a / b, rounded; without meaning for b = 0. Depth 48.

    The integers' division (division.py) with U = V = p and shift p + 1, p (2 p + 1) + A(p + 1, 3 p + 1) + 3 for the
    sticky bit, 3 + A(4, e + 3) for sign and exponent, P(2 p + 2, 2 G) and R(2 p + 2 + 2 G).
    """
    shift = form.p + 1
    divisor = Number(b.magnitude.bits, 1, b.magnitude.hi)
    quotient = integer_divide(builder, a.magnitude, divisor, shift)
    product = integer_multiply(builder, quotient, divisor)
    inexact = ~equals(builder, product, shift_right(a.magnitude, -shift))
    sticky = Number((inexact, *quotient.bits), 0, 2 * quotient.hi + 1)
    exponent = weighted_sum(builder, [(1, a.exponent), (-1, b.exponent)], -shift - 1)
    magnitude, offset = _place(builder, sticky, exponent, exponent.lo, exponent.hi)
    return round_to(builder, form, _differ(builder, a.sign, b.sign), magnitude, offset)


def greater_equal(builder: Builder, form: Format, a: Float, b: Float) -> Bit:
    """[a >= b]. Depth 11: the sign of the exact difference, negated (a gate of its own as an output).

    2 P(p, G) + 2 (p + G) + A(6, p + G + 1) gates.
    """
    difference = _sum(builder, form, [(1, a), (-1, b)])
    return ~difference.bit(difference.width)


def floor(builder: Builder, form: Format, x: Float) -> Float:
    """The largest integer not above x, which the format always holds unless it saturates. Depth 22.

    P(p, G) + 2 + A(3, p + G / 2 + 1) + R(p + G / 2 + 1) gates.
    """
    fixed = _fixed(builder, form, x)
    fraction = fixed.bits[: -form.lowest]
    below = builder.conjunction(x.sign, builder.disjunction(*fraction))
    whole = weighted_sum(builder, [(1, shift_right(fixed, -form.lowest)), (1, Number((below,), 0, 1))])
    return round_to(builder, form, x.sign, whole, 0)


def square_root(builder: Builder, form: Format, x: Float) -> Float:
    """sqrt(x) for x >= 0, rounded. Depth 17; one bank over 2^(p+1) arguments, so for p = O(log n).

    2^(p+1) + p + 4 gates of the table, P(p + 4, G / 2) and R(p + 4 + G / 2).
    """
    odd = x.exponent.bit(0)
    argument = Number((*x.magnitude.bits, odd), 0, (2 << form.p) - 1)
    scale = form.p + 4 + form.p % 2  # even, so that its root is a power of two

    def root(v: int) -> int:
        square = (v & ((1 << form.p) - 1)) << (v >> form.p) << scale
        return 2 * math.isqrt(square) + (math.isqrt(square) ** 2 != square)

    high = max(root(v) for v in ((1 << form.p) - 1, (2 << form.p) - 1))
    bits = telescope_bits(builder, argument.terms(), width_of(0, high), root)
    half = shift_right(x.exponent, 1)
    magnitude, offset = _place(builder, Number(tuple(bits), 0, high), half, half.lo, half.hi)
    return round_to(builder, form, ZERO, magnitude, offset - scale // 2 - 1)


def exponential(builder: Builder, form: Format, x: Float) -> Float:
    """exp(x) within one last place: exp(x) = 2^n 2^f with n + f = x log2(e). Depth 38; a table over p + 4 bits of f.

    P(p, G) + p + G + A(4, p + G + 1) for x on the grid, A(p + G + 6, 2 (p + G) + 8) for the product with log2(e),
    2^(p+4) + p + 5 for the table, P(p + 5, G + 6) and R(p + G + 11).
    """
    h = form.p + 4
    fixed = _sum(builder, form, [(1, x)])
    guard = form.p + (1 << form.e) + 4
    factor = round(math.log2(math.e) * 2**48) << max(guard - 48, 0) >> max(48 - guard, 0)
    scaled = shift_right(weighted_sum(builder, [(factor, fixed)]), guard - form.lowest - h)
    fraction = Number(scaled.bits[:h], 0, (1 << h) - 1)
    power = telescope_bits(builder, fraction.terms(), h + 1, lambda v: round(2 ** (h + v / (1 << h))))
    magnitude, offset = _place(
        builder,
        Number(tuple(power), 0, (2 << h) - 1),
        shift_right(scaled, h),
        form.lowest + form.p - 3,
        form.highest + form.p + 2,
    )
    return round_to(builder, form, ZERO, magnitude, offset - h)


# ---- parts ----


def round_to(builder: Builder, form: Format, sign: Bit, exact: Number, offset: int) -> Float:
    """The float nearest to (-1)^sign exact 2^offset, ties to even; exact is unsigned. Depth 10, R(L) gates.

    The MSB selects p bits, the round bit and "anything below"; one more addition rounds up, and where it
    carries out the exponent grows by one.
    """
    p, lowest, highest = form.p, form.lowest, form.highest
    top = most_significant_bit(builder, exact)
    exponents = [l - p + 1 + offset for l in range(len(top) + 1)]
    below = [builder.disjunction(*exact.bits[: max(l - p, 0)]) for l in range(len(top))]

    def chosen(shift: int) -> Bit:
        return pick(builder, top, [exact.bit(l + shift) if l + shift >= 0 else ZERO for l in range(len(top))])

    kept = Number(tuple(chosen(j - p + 1) for j in range(p)), 0, (1 << p) - 1)
    half, rest = chosen(-p), pick(builder, top, below)
    up = builder.at_least([(2, half), (1, rest), (1, kept.bits[0])], 3)
    rounded = weighted_sum(builder, [(1, kept), (1, Number((up,), 0, 1))])
    carried = rounded.bit(p)
    final = [
        builder.mat([(1, builder.conjunction(here, ~carried)), (1, builder.conjunction(before, carried))])
        for here, before in zip([*top, ZERO], [ZERO, *top], strict=True)
    ]
    nonzero = _union([t for t, k in zip(top, exponents, strict=False) if k >= lowest])
    too_large = _union([t for t, k in zip(final, exponents, strict=True) if k > highest])
    magnitude = []
    for j in range(p):
        own = [(1, rounded.bit(j))] + ([(1, carried)] if j == p - 1 else [])
        magnitude.append(builder.at_least([*own, (1, nonzero), (1, too_large)], 2))
    default = lowest & ((1 << form.e) - 1)
    exponent = []
    for j in range(form.e):
        base = default >> j & 1
        terms = [(((min(max(k, lowest), highest) >> j) & 1) - base, t) for t, k in zip(final, exponents, strict=True)]
        exponent.append(builder.mat(terms, base))
    return Float(
        builder.conjunction(sign, nonzero),
        Number(tuple(magnitude), 0, (1 << p) - 1),
        Number(tuple(exponent), lowest, highest),
    )


def _union(exclusive: Sequence[Bit]) -> Bit:
    """The sum of bits that exclude each other: free."""
    row = merge([(1, bit) for bit in exclusive])
    return Bit(row.const, row.nodes, row.weights)


def _differ(builder: Builder, a: Bit, b: Bit) -> Bit:
    either, both = builder.bank([(1, a), (1, b)], (1, 2))
    return builder.mat([(1, either), (-1, both)])


def _place(builder: Builder, mantissa: Number, exponent: Number, lo: int, hi: int) -> tuple[Number, int]:
    """mantissa 2^exponent as (magnitude, offset), exponents beyond lo..hi taken as the nearer end. Depth 3,
    P(b, hi - lo + 1) gates.
    """
    at_least = [ONE, *builder.bank(exponent.terms(), range(lo + 1, hi + 1)), ZERO]
    selectors = [
        _union([a, Bit(-b.const, b.nodes, tuple(-w for w in b.weights))]) for a, b in itertools.pairwise(at_least)
    ]
    width = mantissa.width + hi - lo
    bits = [
        pick(builder, selectors, [mantissa.bit(j - s) if j >= s else ZERO for s in range(len(selectors))])
        for j in range(width)
    ]
    return Number(tuple(bits), 0, mantissa.hi << (hi - lo)), lo


def _fixed(builder: Builder, form: Format, x: Float) -> Number:
    """|x| 2^-lowest, an integer. Depth 3."""
    return _place(builder, x.magnitude, x.exponent, form.lowest, form.highest)[0]


def _sum(builder: Builder, form: Format, parts: Sequence[tuple[int, Float]]) -> Number:
    """The exact sum of +-x, times 2^-lowest. Depth 3 + 1 + 7: -b is b - 2 (sign and b)."""
    terms: list[Term] = []
    limit = 0
    for c, x in parts:
        magnitude = _fixed(builder, form, x)
        limit += magnitude.hi
        for w, bit in magnitude.terms(c):
            terms += [(w, bit), (-2 * w, builder.conjunction(x.sign, bit))]
    return add_terms(builder, terms, 0, -limit, limit)


def _absolute(builder: Builder, x: Number) -> tuple[Bit, Number]:
    """Sign and |x|. Depth 1 + 7."""
    sign = x.bit(x.width) if x.signed else ZERO
    terms = [t for w, bit in x.terms() for t in ((w, bit), (-2 * w, builder.conjunction(sign, bit)))]
    return sign, add_terms(builder, terms, 0, 0, max(x.hi, -x.lo))
