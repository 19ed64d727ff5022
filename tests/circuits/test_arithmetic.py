"""Products, comparison, shifts, functions, remainders and division against Python integers."""

import itertools
import math

import numpy as np
import pytest

from flowgression import InputError
from flowgression.circuits.arithmetic import division, product, remainder, select
from flowgression.circuits.arithmetic.functions import apply_table, function
from flowgression.circuits.arithmetic.number import Number, constant, input_number, shift_right
from flowgression.circuits.builder import Builder

BYTE, NIBBLE, SIGNED4 = (8, False), (4, False), (4, True)


@pytest.mark.parametrize("signs", [(True, True), (True, False), (False, False)])
def test_every_product_of_nibbles(check, signs):
    check(product.multiply, [(4, s) for s in signs], lambda x, y: x * y, samples=0, depth=product.DEPTH)


def test_square_shares_its_ands(check):
    square = check(lambda b, x: product.multiply(b, x, x), [(6, True)], lambda x: x * x, samples=0)
    other = check(product.multiply, [(6, True), (6, True)], lambda x, y: x * y)
    assert square.num_gates < 0.7 * other.num_gates


def test_dot_product_with_constants_and_addend(check):
    def build(b, x, y, z):
        return product.dot(b, [x, y, z], [y, constant(-11), constant(0)], [(4, z)])

    check(build, [(5, True)] * 3, lambda x, y, z: x * y - 11 * y + 4 * z, depth=8)


def test_comparisons(check):
    check(
        lambda b, x, y: [
            Number((select.greater_equal(b, x, y),), 0, 1),
            Number((select.equals(b, x, y),), 0, 1),
            select.choose(b, select.greater_equal(b, x, y), x, y),
        ],
        [SIGNED4, NIBBLE],
        lambda x, y: [int(x >= y), int(x == y), max(x, y)],
        samples=0,
        depth=3,
    )


@pytest.mark.parametrize("signed", [True, False])
@pytest.mark.parametrize("width", [2, 5, 8, 9])
def test_clamp(check, signed, width):
    low, high = -(1 << (width - 1)), (1 << (width - 1)) - 1
    check(lambda b, x: select.clamp(b, x, width), [(8, signed)], lambda x: min(max(x, low), high), samples=0, depth=2)


@pytest.mark.parametrize("k", [-3, 0, 2, 6, 9])
def test_constant_shift_is_floor_and_free(check, k):
    circuit = check(lambda b, x: shift_right(x, k), [(6, True)], lambda x: math.floor(x / 2**k), samples=0)
    assert circuit.num_gates <= circuit.output_ports[0].num_bits  # only gates that give constants a node


def test_most_significant_bit_and_normalising_shift(check):
    def build(b, x):
        mantissa, top = division.normalise(b, x, 4)
        return [mantissa, Number(tuple(top), 0, 1 << 7)]

    def reference(x):
        top = x.bit_length() - 1
        return [math.floor(x * 2.0 ** (4 - top)), 1 << top] if x else [0, 0]

    check(build, [BYTE], reference, samples=0, depth=3)


@pytest.mark.parametrize(
    ("name", "lo", "hi", "fraction"),
    [
        ("exp", -128, 127, 4),
        ("silu", -128, 127, 4),
        ("gelu", -512, 511, 6),
        ("reciprocal", 64, 127, 6),
        ("rsqrt", 64, 255, 6),
    ],
)
def test_table_on_every_argument(check, name, lo, hi, fraction):
    f = function(name, lo, hi, fraction, fraction)
    bits, signed = (10 if hi > 300 else 8), lo < 0

    def build(b, x):
        return apply_table(b, f, Number(x.bits, max(x.lo, lo), min(x.hi, hi)))

    check(build, [(bits, signed)], f, samples=[[x] for x in range(lo, hi + 1)], depth=2)
    assert f.error <= 0.75


@pytest.mark.parametrize(("name", "bits"), [("silu", 6), ("exp", 6), ("gelu", 7)])
def test_crt_equals_table_on_every_argument(check, name, bits):
    half = 1 << (bits - 1)
    f = function(name, -half, half - 1, bits - 4, bits - 4)
    circuit = check(
        lambda b, x: remainder.apply_crt(b, f, x), [(bits, True)], f, samples=0, depth=remainder.FUNCTION_DEPTH
    )
    assert circuit.statistics().depth > 2


@pytest.mark.slow
@pytest.mark.parametrize("name", ["silu", "gelu", "exp"])
def test_crt_equals_table_at_ten_bits(check, name):
    f = function(name, -512, 511, 6, 6)
    check(lambda b, x: remainder.apply_crt(b, f, x), [(10, True)], f, samples=0, depth=9)


def test_crt_grows_polynomially_where_the_table_doubles():
    def gates(bits, back_end):
        builder = Builder(materialise=False)
        f = function("reciprocal", 1 << bits, (2 << bits) - 1, bits, bits)
        back_end(builder, f, Number(tuple(builder.inputs(bits + 1)), 1 << bits, (2 << bits) - 1))
        return builder.statistics()

    table = [gates(bits, apply_table).gates for bits in (6, 8, 10)]
    assert all(b > 3 * a for a, b in itertools.pairwise(table))
    crt = [gates(bits, remainder.apply_crt) for bits in (4, 8)]
    assert crt[0].depth == crt[1].depth == 9
    assert crt[1].gates < 16 * crt[0].gates


def test_function_errors():
    with pytest.raises(InputError, match="did you mean 'silu'"):
        function("sliu", -8, 7, 2, 2)
    builder = Builder()
    with pytest.raises(InputError, match="clamp it first"):
        apply_table(builder, function("silu", -8, 7, 2, 2), input_number(builder, 6))


@pytest.mark.parametrize(("m", "width", "signed"), [(2, 4, True), (3, 3, True), (4, 2, False)])
def test_every_iterated_product(check, m, width, signed):
    check(
        lambda b, *x: remainder.iterated_product(b, list(x)),
        [(width, signed)] * m,
        lambda *x: math.prod(x),
        samples=0,
        depth=remainder.PRODUCT_DEPTH,
    )


def test_iterated_product_depth_does_not_grow():
    depths = []
    for m in (3, 6, 12):
        builder = Builder(materialise=False)
        remainder.iterated_product(builder, [input_number(builder, 3, signed=False) for _ in range(m)])
        depths.append(builder.statistics().depth)
    assert depths == [remainder.PRODUCT_DEPTH] * 3


def test_primes_beyond():
    assert remainder.primes_beyond(3 * 5 * 7) == (3, 5, 7, 11)


@pytest.mark.parametrize(("a", "b", "shift"), [(6, 4, 0), (5, 5, 3), (3, 6, 4)])
def test_every_division(check, a, b, shift):
    points = [[x, y] for x in range(1 << a) for y in range(1, 1 << b)]
    check(
        lambda builder, x, y: division.divide(builder, x, Number(y.bits, 1, y.hi), shift),
        [(a, False), (b, False)],
        lambda x, y: (x << shift) // y,
        samples=points,
        depth=division.DEPTH,
    )


def test_division_with_the_crt_reciprocal(check):
    points = [[x, y] for x in range(16) for y in range(1, 16)]
    check(
        lambda b, x, y: division.divide(b, x, Number(y.bits, 1, 15), 2, remainder.apply_crt),
        [NIBBLE, NIBBLE],
        lambda x, y: (x << 2) // y,
        samples=points,
        depth=division.DEPTH + 7,
    )


def test_function_values_are_the_real_function():
    f = function("gelu", -2048, 2047, 8, 8)
    x = np.arange(-2048, 2048) / 256
    real = np.array([0.5 * v * (1 + math.erf(v / math.sqrt(2))) for v in x])
    assert np.abs(f.values / 256 - real).max() <= 0.75 / 256
