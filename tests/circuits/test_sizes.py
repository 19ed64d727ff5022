"""The size formulas of the docstrings are bounds: no construction takes more gates than its formula says.

Letters as in the docstrings: A(h, W) the gates of one sum of W columns of at most h bits.
"""

import math

import pytest

from flowgression.circuits.arithmetic import addition, division, floating, product, remainder, select
from flowgression.circuits.arithmetic.floating import Format, input_float
from flowgression.circuits.arithmetic.functions import apply_table, function
from flowgression.circuits.arithmetic.number import Number, input_number
from flowgression.circuits.builder import Builder
from flowgression.circuits.lower import cells


def A(h, W):
    counted = h.bit_length() + 1
    w = addition.block_width(counted)
    columns = W * (h + math.log2(h) + 1)
    return columns + (W / w + 1) * (4**w + 2 * w) + W**2 / 2 + 3 * W


def gates(construct, *widths, signed=False):
    builder = Builder(materialise=False)
    construct(builder, *[input_number(builder, width, signed) for width in widths])
    return builder.statistics().gates


@pytest.mark.parametrize("m", [2, 3, 7, 16, 60, 200])
@pytest.mark.parametrize("signed", [False, True])
def test_iterated_addition(m, signed):
    W = 8 + m.bit_length()
    assert 0 < gates(addition.add, *[8] * m, signed=signed) <= A(m + 1, W)


@pytest.mark.parametrize("W", [4, 9, 17, 30])
def test_look_ahead(W):
    assert W**2 / 4 < gates(addition.add, W, W) <= W**2 / 2 + 3 * W


@pytest.mark.parametrize(("a", "b"), [(3, 3), (4, 9), (8, 8), (12, 12)])
def test_product(a, b):
    assert gates(product.multiply, a, b) <= a * b + A(min(a, b) + 1, a + b)


@pytest.mark.parametrize("m", [2, 9, 40])
def test_dot_product(m):
    def dot(builder, *numbers):
        return product.dot(builder, numbers[:m], numbers[m:])

    assert gates(dot, *[6] * 2 * m) <= 36 * m + A(6 * m + 1, 12 + m.bit_length())


@pytest.mark.parametrize(("U", "V", "shift"), [(4, 4, 0), (8, 8, 0), (6, 4, 5)])
def test_division(U, V, shift):
    fraction, quotient = U + shift + 1, U + shift
    bound = V + V * (V + 1) + 2 ** (V - 1) + fraction + U * fraction + A(min(U, fraction) + 1, U + fraction)
    bound += quotient * (V + 1) + quotient * V + A(min(quotient, V) + 4, quotient + V + 1)
    bound += A(3, quotient + 1) + 3 * (quotient + 1)

    def divide(builder, a, b):
        return division.divide(builder, a, Number(b.bits, 1, b.hi), shift)

    assert gates(divide, U, V) <= bound


def test_selections():
    assert gates(select.greater_equal, 8, 8) == 1
    assert gates(select.equals, 8, 8) == 3
    assert gates(select.most_significant_bit, 8) <= 8
    assert gates(lambda b, x: select.clamp(b, x, 8), 16, signed=True) == 9
    assert gates(lambda b, s, x: select.pick(b, s.bits, x.bits), 8, 8) == 9


@pytest.mark.parametrize("p", [4, 7])
def test_functions(p):
    half = 1 << (p - 1)
    silu = function("silu", -half, half - 1, p - 4 or 1, p - 4 or 1)
    assert gates(lambda b, x: apply_table(b, silu, x), p, signed=True) <= 2**p + p
    lo, hi = silu.low << silu.shift, ((silu.high + 1) << silu.shift) - 1
    primes = remainder.primes_beyond(4 * (hi - lo + 1))
    assert gates(lambda b, x: remainder.apply_crt(b, silu, x), p, signed=True) <= crt_bound(
        primes, [p * q / 2 for q in primes], (hi - lo).bit_length()
    )


def crt_bound(primes, spans, bits):
    digits = max(primes).bit_length()
    banks = sum(span + q.bit_length() for q, span in zip(primes, spans, strict=True))
    return banks + len(primes) + A(len(primes) * (digits + 1) + 1, bits)


@pytest.mark.parametrize(("m", "p"), [(3, 3), (6, 2), (8, 4)])
def test_iterated_product(m, p):
    primes = remainder.primes_beyond(4 * ((2**p - 1) ** m + 1))
    bound = crt_bound(primes, [m * p * q / 2 + m * q for q in primes], m * p)
    assert gates(lambda b, *x: remainder.iterated_product(b, list(x)), *[p] * m) <= bound


FORM = Format(4, 3)
GRID = 1 << FORM.e


def P(b, g):
    return g + (b + g) * (g + 1)


def R(L):
    return L * (FORM.p + 7) + A(3, FORM.p + 1) + 2 * FORM.p + FORM.e + 7


def float_gates(operation, count):
    builder = Builder(materialise=False)
    operation(builder, FORM, *[input_float(builder, FORM) for _ in range(count)])
    return builder.statistics().gates


@pytest.mark.parametrize("m", [2, 5, 12])
def test_float_sums(m):
    L = FORM.p + GRID + math.ceil(math.log2(m)) + 1
    bound = m * P(FORM.p, GRID) + m * (FORM.p + GRID) + A(3 * m + 1, L) + L + A(4, L) + R(L)
    assert float_gates(floating.add, m) <= bound


def test_float_comparison_floor_root_and_exponential():
    p, e = FORM
    assert float_gates(floating.greater_equal, 2) <= 2 * P(p, GRID) + 2 * (p + GRID) + A(6, p + GRID + 1)
    whole = p + GRID // 2 + 1
    assert float_gates(floating.floor, 1) <= P(p, GRID) + 2 + A(3, whole) + R(whole)
    assert float_gates(floating.square_root, 1) <= 2 ** (p + 1) + p + 4 + P(p + 4, GRID // 2) + R(p + 4 + GRID // 2)
    bound = P(p, GRID) + p + GRID + A(4, p + GRID + 1) + A(p + GRID + 6, 2 * (p + GRID) + 8)
    assert float_gates(floating.exponential, 1) <= bound + 2 ** (p + 4) + p + 5 + P(p + 5, GRID + 6) + R(p + GRID + 11)
    two = p * p + A(p + 1, 2 * p) + 3 + A(3, e + 2) + P(2 * p, 2 * GRID) + R(2 * (p + GRID))
    assert float_gates(floating.multiply, 2) <= two


@pytest.mark.parametrize("m", [1, 4, 16])
def test_cells(m):
    p, W = 6, 13 + m.bit_length()

    def dot(builder, *numbers):
        return cells.dot_cell(builder, numbers[:m], numbers[m:], bias_shift=0, shift=3, width=p)

    assert gates(dot, *[p] * 2 * m, signed=True) <= m * p**2 + A(m * p + 3, W) + p + 1

    def squares(builder, *numbers):
        return cells.square_sum_cell(builder, numbers, plus=1, shift=0, width=None)

    assert gates(squares, *[p] * m, signed=True) <= m * p * (p - 1) / 2 + A(m * p + 3, W)
    assert gates(lambda b, *x: cells.total_cell(b, x, 1), *[p] * m) <= A(m + 2, p + m.bit_length())
