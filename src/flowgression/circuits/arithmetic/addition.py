"""Iterated addition in constant depth: counting columns, folding blocks, carry look-ahead.

Letters: m summands, h bits in a column, W bits of the result. Depth 1 + 1 + 1 + 1 + 3 = 7 for every m: a bank that
counts each column and one gate per bit of the count (2), the same for blocks of w columns (2), and look-ahead for
the last two rows (3).

A(h, W), the gates of one sum of W columns with at most h bits (size formulas elsewhere refer to it):
W (h + log2 h + 1) to count columns, (W / w + 1) (4^w + 2 w) to fold blocks, W^2 / 2 + 3 W to look ahead, where w is the
block width of log2 h + 1, so 4^w = O(log^2 h). A constant adds one bit to a column. Wires: W h^2 in the banks, and
O(W^3) in the look-ahead. Weights: at most 2^w in blocks and 2 in the look-ahead, so O(log h).
"""

from collections.abc import Iterable, Sequence

from flowgression.circuits.arithmetic.number import Number, constant, width_of
from flowgression.circuits.builder import ONE, ZERO, Bit, Builder, Term, extend, merge, telescope_bits

DEPTH = 7
"""Nominal depth of `add_terms`."""


def naf(value: int) -> list[tuple[int, int]]:
    """Non-adjacent form: value = sum of sign * 2^position, with the fewest digits."""
    digits, position = [], 0
    while value:
        if value & 1:
            sign = 2 - (value & 3)
            digits.append((sign, position))
            value -= sign
        value >>= 1
        position += 1
    return digits


def add_terms(builder: Builder, terms: Iterable[Term], const: int, lo: int, hi: int) -> Number:
    """const + sum of coefficient * bit, which the caller knows to lie in lo..hi. Depth at most 7.

    Works modulo 2^W with W the width of lo..hi: -2^j x is NOT x in column j and the constant -2^j.
    """
    width = width_of(lo, hi)
    if lo == hi:
        return constant(lo)
    columns: list[list[Bit]] = [[] for _ in range(width)]
    for coefficient, bit in terms:
        if not bit.nodes:
            const += coefficient * bit.const
            continue
        for sign, j in naf(coefficient):
            if j < width:
                columns[j].append(bit if sign > 0 else ~bit)
            if sign < 0:
                const -= 1 << j
    for j in range(width):
        if const >> j & 1:
            columns[j].append(ONE)
    builder.note("columns", columns)
    if height(columns) > 2:
        columns = count_columns(builder, columns)
    if height(columns) > 2:
        columns = fold_blocks(builder, columns)
    total = tuple(look_ahead(builder, columns))
    builder.note("sum", total)
    return Number(total, lo, hi)


def add(builder: Builder, *numbers: Number) -> Number:
    """Exact sum of m numbers. Depth 7; 3 for two numbers. A(m + 1, W) gates."""
    return weighted_sum(builder, [(1, number) for number in numbers])


def subtract(builder: Builder, a: Number, b: Number) -> Number:
    """Exact a - b. Depth at most 7, A(3, W) gates."""
    return weighted_sum(builder, [(1, a), (-1, b)])


def weighted_sum(builder: Builder, parts: Sequence[tuple[int, Number]], const: int = 0) -> Number:
    """const + sum of integer * number, exactly. Depth at most 7; A(h + 1, W) gates, h the integers' digits."""
    terms = [term for c, x in parts for term in x.terms(c)]
    lo = const + sum(min(c * x.lo, c * x.hi) for c, x in parts)
    hi = const + sum(max(c * x.lo, c * x.hi) for c, x in parts)
    return add_terms(builder, terms, const, lo, hi)


def height(columns: Sequence[Sequence[Bit]]) -> int:
    return max(map(len, columns), default=0)


def count_columns(builder: Builder, columns: Sequence[Sequence[Bit]]) -> list[list[Bit]]:
    """Replace each column of more than two bits by the binary count of its ones. Depth 2; weights 1.

    h bank gates and one per digit for a column of h bits: at most W (h + log2 h + 1).
    """
    result: list[list[Bit]] = [[] for _ in columns]
    counted = []
    for j, bits in enumerate(columns):
        if len(bits) <= 2:
            result[j].extend(bits)
            continue
        digits = min(len(bits).bit_length(), len(columns) - j)
        counts = telescope_bits(builder, [(1, bit) for bit in bits], digits, lambda v: v)
        counted.append((j, 1, counts))
        for i, bit in enumerate(counts):
            _place(result, j + i, bit)
    builder.note("stage", counted)
    return result


def fold_blocks(builder: Builder, columns: Sequence[Sequence[Bit]]) -> list[list[Bit]]:
    """Replace blocks of w columns by their sum, which spans two blocks: at most two bits per column are left. Depth 2.

    w is the least width with h (2^w - 1) < 2^(2w) for columns of h bits; at most (W / w + 1) (4^w + 2 w) gates.
    """
    w = block_width(height(columns))
    result: list[list[Bit]] = [[] for _ in columns]
    folded = []
    for start in range(0, len(columns), w):
        terms = [(1 << i, bit) for i, column in enumerate(columns[start : start + w]) for bit in column]
        digits = telescope_bits(builder, terms, min(2 * w, len(columns) - start), lambda v: v)
        folded.append((start, len(columns[start : start + w]), digits))
        for i, bit in enumerate(digits):
            _place(result, start + i, bit)
    builder.note("stage", folded)
    return result


def block_width(h: int) -> int:
    w = 1
    while h * ((1 << w) - 1) >= 1 << (2 * w):
        w += 1
    return w


def _place(columns: list[list[Bit]], j: int, bit: Bit) -> None:
    if j < len(columns) and bit != ZERO:
        columns[j].append(bit)


def look_ahead(builder: Builder, columns: Sequence[Sequence[Bit]]) -> list[Bit]:
    """The sum of two rows modulo 2^W, at most two bits per column. Depth 3, gates at most W^2 / 2 + 3 W.

    p_j = [a_j + b_j >= 1], g_j = [a_j + b_j >= 2]; t_ij: a carry made in column i arrives in column j, that is
    [g_i + sum_{i<k<j} (p_k - g_k) >= j - i]. For one j the t_ij exclude each other, so their sum is the carry itself
    and a_j + b_j + carry_j - 2 carry_{j+1} is the result's bit.
    """
    width = len(columns)
    if height(columns) <= 1:
        return [column[0] if column else ZERO for column in columns]
    pairs = [builder.bank([(1, bit) for bit in column], (1, 2)) for column in columns]
    carries: list[list[Bit]] = [[] for _ in range(width + 1)]
    steps = [merge([(1, p), (-1, g)]).as_term() for p, g in pairs]
    for i, (_, g) in enumerate(pairs):
        if g == ZERO:
            continue
        run = merge([(1, g)])
        for j in range(i + 1, width + 1):
            carry = builder.bank_of(run, (j - i,))[0]
            if carry == ZERO:
                break
            carries[j].append(carry)
            if j < width:
                run = extend(run, [steps[j]])
    return [
        builder.mat([(1, p), (1, g)] + [(1, c) for c in carries[j]] + [(-2, c) for c in carries[j + 1]])
        for j, (p, g) in enumerate(pairs)
    ]
