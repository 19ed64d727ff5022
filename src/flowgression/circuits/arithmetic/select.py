"""Comparison, clamping, the MSB of a number and shifts by a variable amount. Letters: W bits, k choices."""

from collections.abc import Sequence

from flowgression.circuits.arithmetic.number import Number, constant, width_of
from flowgression.circuits.builder import ZERO, Bit, Builder


def greater_equal(builder: Builder, a: Number, b: Number) -> Bit:
    """[a >= b]. Depth 1, one gate with weights up to 2^(W-1)."""
    return builder.at_least(a.terms() + b.terms(-1), 0)


def equals(builder: Builder, a: Number, b: Number) -> Bit:
    """[a = b]. Depth 2, three gates."""
    difference = a.terms() + b.terms(-1)
    at_least, above = builder.bank(difference, (0, 1))
    return builder.mat([(1, at_least), (-1, above)])


def choose(builder: Builder, condition: Bit, a: Number, b: Number) -> Number:
    """a where the condition holds, else b. Depth 2, three gates per bit."""
    lo, hi = min(a.lo, b.lo), max(a.hi, b.hi)
    bits = []
    for j in range(width_of(lo, hi)):
        yes = builder.conjunction(condition, a.bit(j))
        no = builder.conjunction(~condition, b.bit(j))
        bits.append(builder.mat([(1, yes), (1, no)]))
    return Number(tuple(bits), lo, hi)


def clamp(builder: Builder, x: Number, width: int) -> Number:
    """x limited to the two's-complement numbers of `width` bits. Depth 2, width + 1 gates.

    over = x is positive and has a bit above; under likewise for negative x; both give the remaining bits at once.
    """
    lo, hi = -(1 << (width - 1)), (1 << (width - 1)) - 1
    if lo <= x.lo and x.hi <= hi:
        return x
    if x.lo >= hi or x.hi <= lo:
        return constant(hi if x.lo >= hi else lo)
    sign = x.bit(x.width) if x.signed else ZERO
    upper = [x.bit(j) for j in range(width - 1, x.width - x.signed)]
    count = len(upper)
    over = builder.at_least([(1, bit) for bit in upper] + [(-count, sign)], 1)
    under = builder.at_least([(1, ~bit) for bit in upper] + [(count, sign)], count + 1)
    low_bits = [builder.at_least([(1, x.bit(j)), (1, over), (-1, under)], 1) for j in range(width - 1)]
    if not x.signed:
        return Number(tuple(low_bits), x.lo, hi)
    return Number((*low_bits, sign), max(x.lo, lo), min(x.hi, hi))


def most_significant_bit(builder: Builder, x: Number) -> list[Bit]:
    """One bit per position of an unsigned x: its highest one. All zero for x = 0. Depth 1, W gates, weights 1."""
    bits = x.bits
    return [builder.at_least([(1, bit)] + [(-1, higher) for higher in bits[j + 1 :]], 1) for j, bit in enumerate(bits)]


def pick(builder: Builder, one_hot: Sequence[Bit], choices: Sequence[Bit]) -> Bit:
    """The choice whose selector is one; 0 if none is. Depth 2, k + 1 gates: the ANDs exclude each other."""
    return builder.mat([(1, builder.conjunction(s, c)) for s, c in zip(one_hot, choices, strict=True)])


def shift_right_by(builder: Builder, x: Number, one_hot: Sequence[Bit], offset: int, lo: int, hi: int) -> Number:
    """floor(x 2^-(offset + l)) with l the selected position, known to lie in lo..hi. Depth 2, k + 1 gates
    per bit of the result, k selectors.

    offset may be negative (a shift to the left). Exactly one selector must be one, or the result is 0.
    """
    width = width_of(lo, hi)

    def shifted(j: int) -> list[Bit]:
        return [x.bit(j + offset + l) if j + offset + l >= 0 else ZERO for l in range(len(one_hot))]

    return Number(tuple(pick(builder, one_hot, shifted(j)) for j in range(width)), lo, hi)
