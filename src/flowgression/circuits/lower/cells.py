"""The circuits of single operations: what one element of a tensor operation costs. Each is a function of Numbers.

Letters: p bits of an argument, m summands, W bits of a wide exact number, l position of its MSB; A(h, W) the
gates of one iterated addition (addition.py). Depths are nominal (longest for any number of summands); gates are at
most the numbers given, and one more for each bit of a result that would copy an argument (`detached`).
"""

import itertools
from collections.abc import Callable, Sequence
from functools import wraps
from typing import Any

from flowgression.circuits.arithmetic.addition import add_terms, weighted_sum
from flowgression.circuits.arithmetic.functions import Function, apply_table
from flowgression.circuits.arithmetic.number import Number, constant, shift_right, width_of
from flowgression.circuits.arithmetic.product import dot, product_range, product_terms
from flowgression.circuits.arithmetic.remainder import apply_crt
from flowgression.circuits.arithmetic.select import clamp, most_significant_bit, pick, shift_right_by
from flowgression.circuits.builder import ONE, ZERO, Bit, Builder, canonical_form, merge

APPLY = {"table": apply_table, "crt": apply_crt}
Row = Sequence[Number]


def detached(cell: Callable[..., Any]) -> Callable[..., Any]:
    """The cell with gates of its own for result bits that merely copy an argument's node, or a node of an earlier
    result.

    So numbers from different calls never share nodes, and a call's size follows from its arguments' forms one by one.
    """

    @wraps(cell, assigned=(), updated=())
    def run(builder: Builder, *arguments: Any) -> Any:
        found = cell(builder, *arguments)
        taken = set(canonical_form(arguments)[1])
        results = []
        for number in found if type(found) is list else [found]:
            own: dict[Bit, Bit] = {}
            for bit in number.bits:
                if bit not in own:
                    own[bit] = bit if taken.isdisjoint(bit.nodes) else builder.own_gate([(1, bit)])
            results.append(number.with_bits(tuple(own[bit] for bit in number.bits)))
            taken.update(node for bit in results[-1].bits for node in bit.nodes)
        return results if type(found) is list else results[0]

    return run


def half(shift: int) -> tuple[int, Number]:
    """The summand 2^(shift - 1) that makes a floor by 2^shift a rounding; nothing for shift 0."""
    return 1 << shift >> 1, constant(1)


def narrow(builder: Builder, exact: Number, shift: int, width: int | None) -> Number:
    """clamp(floor(exact 2^-shift)) to `width` bits, or no clamp for None. Depth 2, width + 1 gates."""
    shifted = shift_right(exact, shift)
    return shifted if width is None else clamp(builder, shifted, width)


def dot_cell(
    builder: Builder, xs: Row, ys: Row, *bias: Number, bias_shift: int, shift: int, width: int | None
) -> Number:
    """clamp((sum x y + bias 2^bias_shift) 2^-shift), with at most one bias. Depth 8 + 2; 7 + 2 with constant ys.

    m p^2 + A(m p + 3, W) + width + 1 gates with W = 2 p + log2 m + 1; with constants of p bits no ANDs and columns of
    half the height.
    """
    addends = [*((1 << bias_shift, b) for b in bias), half(shift)]
    return narrow(builder, dot(builder, xs, ys, addends), shift, width)


def fused_cell(builder: Builder, x: Number, y: Number, z: Number, shift: int, width: int) -> Number:
    """clamp((x y + z 2^shift) 2^-shift). Depth 8 + 2, p^2 + A(p + 4, W) + width + 1 gates, W = 2 p + 1."""
    return narrow(builder, dot(builder, [x], [y], [(1 << shift, z), half(shift)]), shift, width)


def mix_cell(builder: Builder, *numbers: Number, coefficients: Sequence[int], shift: int, width: int | None) -> Number:
    """clamp((sum c x) 2^-shift) for constants c with h digits in all. Depth 7 + 2, A(h + 2, W) + width + 1 gates."""
    parts = [*zip(coefficients, numbers, strict=True), half(shift)]
    return narrow(builder, weighted_sum(builder, parts), shift, width)


def total_cell(builder: Builder, xs: Row, plus: int) -> Number:
    """sum x + plus, exactly. Depth 7, A(m + 2, p + log2 m + 1) gates."""
    return weighted_sum(builder, [(1, x) for x in xs], plus)


def square_sum_cell(builder: Builder, xs: Row, plus: int, shift: int, width: int | None) -> Number:
    """clamp((sum x^2 + plus) 2^-shift). Depth 8 + 2, m p (p - 1) / 2 + A(m p + 3, W) + width + 1 gates."""
    return narrow(builder, dot(builder, xs, xs, [(plus, constant(1)), half(shift)]), shift, width)


def centred_square_sum_cell(builder: Builder, xs: Row, total: Number) -> Number:
    """D^2 sum x^2 - D total^2 + 1 with total the sum of the xs. Depth 8.

    m p^2 / 2 + (p + log2 m + 1)^2 / 2 ANDs, each in as many columns as m^2 and m have digits: A(O(m p log m), W).
    """
    size = len(xs)
    terms = [term for x in xs for term in product_terms(builder, x, x, size * size)]
    terms += product_terms(builder, total, total, -size)
    largest = size**3 * max(max(x.lo**2, x.hi**2) for x in xs)
    return add_terms(builder, terms, 1, 1, largest + 1)


def ceiling_cell(builder: Builder, xs: Row, shift: int) -> Number:
    """1 + max floor(x 2^-shift). Depth 1 + 1 + 1: a bank for each x, one gate for each value, one for each bit.

    With levels lo < v <= hi of floor(x 2^-shift): m (hi - lo) + (hi - lo) + log2 (hi - lo) gates.
    """
    lo, hi = max(x.lo >> shift for x in xs), max(x.hi >> shift for x in xs)
    levels = range(lo + 1, hi + 1)
    banks = [builder.bank(x.terms(), [v << shift for v in levels]) for x in xs]
    reached = [builder.disjunction(*column) for column in zip(*banks, strict=True)]
    bits = []
    for j in range(width_of(lo + 1, hi + 1)):
        steps = [((v + 1 >> j & 1) - (v >> j & 1), bit) for v, bit in zip(levels, reached, strict=True)]
        bits.append(builder.mat([step for step in steps if step[0]], lo + 1 >> j & 1))
    return Number(tuple(bits), lo + 1, hi + 1)


def at_least_one_cell(builder: Builder, x: Number) -> Number:
    """max(x, 1). Depth 1, p gates; the lowest bit also answers for x <= 0."""
    if x.lo >= 1:
        return x
    sign = x.bit(x.width) if x.signed else ZERO
    upper = x.bits[1 : x.width - x.signed]
    many = len(upper) + 1
    lowest = builder.at_least([(many, x.bit(0)), (many, sign)] + [(-1, bit) for bit in upper], 0)
    bits = [builder.at_least([(1, bit), (-1, sign)], 1) for bit in upper]
    return Number((lowest, *bits), 1, max(x.hi, 1))


def apply_cell(builder: Builder, x: Number, function: Function, backend: str) -> Number:
    """function(x). Depth 2 (`table`, 2^p + p gates) or 9 (`crt`, polynomial: remainder.py)."""
    return APPLY[backend](builder, function, x)


def inverse_cell(builder: Builder, x: Number, function: Function, bits: int, root: int, backend: str) -> list[Number]:
    """For x >= 1: function(mantissa) and 2^e as a one-hot number, with x = mantissa 2^(root e - bits), floored.

    root 1: mantissa in [2^bits, 2^(bits+1)), for reciprocals; root 2: in [2^bits, 2^(bits+2)) and 2 e even, for roots.
    Depth 1 + 2 + function; W + (bits + root) (W / root + 2) gates and the function's.
    """
    top = most_significant_bit(builder, x)
    exponent = [_either(top[root * e : root * e + root]) for e in range(-(-len(top) // root))]
    mantissa_bits = []
    for j in range(bits + root):
        choices = [x.bit(j - bits + root * e) if j - bits + root * e >= 0 else ZERO for e in range(len(exponent))]
        mantissa_bits.append(pick(builder, exponent, choices))
    mantissa = Number(tuple(mantissa_bits), 1 << bits, (1 << (bits + root)) - 1)
    builder.note("mantissa", mantissa)
    result = APPLY[backend](builder, function, mantissa)
    return [result, Number(tuple(exponent), 0, 1 << (len(exponent) - 1))]


def _either(selectors: Sequence[Bit]) -> Bit:
    """The sum of bits that exclude each other, which is a bit: free."""
    row = merge([(1, bit) for bit in selectors])
    return Bit(row.const, row.nodes, row.weights)


def rescale_cell(builder: Builder, x: Number, factor: Number, power: Number, shift: int, width: int) -> Number:
    """clamp(x factor / (2^shift power), rounded) with `power` one-hot of k bits and shift >= 1. Depth 8 + 2 + 2.

    U p ANDs for x of U bits and a factor of p, A(p + 2, U + p + k), (U + p) (k + 1) to shift, width + 1.

    Half of the divisor is one more row of the product's sum, since `power` is one-hot: rounding costs no depth.
    """
    exact = dot(builder, [x], [factor], [(1 << (shift - 1), power)])
    lo, hi = ((end + (1 << shift >> 1)) >> shift for end in product_range(x, factor))  # power = 1 gives the largest
    shifted = shift_right_by(builder, exact, power.bits, shift, min(lo, 0), max(hi, 0))
    return clamp(builder, shifted, width)


def one_hot_cell(builder: Builder, index: Number, size: int) -> Number:
    """2^min(index, size - 1) for index >= 0: one bit per value. Depth 1, size - 1 gates."""
    at_least = [ONE, *builder.bank(index.terms(), range(1, size)), ZERO]
    pairs = itertools.pairwise(at_least)
    bits = tuple(_either([low, Bit(-high.const, high.nodes, tuple(-w for w in high.weights))]) for low, high in pairs)
    return Number(bits, 0, 1 << (size - 1))


def select_cell(builder: Builder, one_hot: Number, entries: Row) -> Number:
    """The entry whose bit is one of k. Depth 1 for constant entries, p gates; else 2, p (k + 1) gates."""
    lo, hi = min(e.lo for e in entries), max(e.hi for e in entries)
    if lo == hi:
        return constant(lo)
    bits = []
    for j in range(width_of(lo, hi)):
        chosen = []
        for selector, entry in zip(one_hot.bits, entries, strict=True):
            bit = entry.bit(j)
            chosen.append((bit.const, selector) if entry.is_constant else (1, builder.conjunction(selector, bit)))
        bits.append(builder.mat(chosen))
    return Number(tuple(bits), lo, hi)
