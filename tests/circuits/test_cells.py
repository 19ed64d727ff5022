"""Cells, the elements of tensor operations, on every input at small widths: circuit = integers."""

from functools import partial

import numpy as np
import pytest

from flowgression.circuits.arithmetic.functions import function
from flowgression.circuits.arithmetic.number import Number, constant, input_number
from flowgression.circuits.builder import Builder
from flowgression.circuits.lower import cells

P = 4
LOW, HIGH = -(1 << (P - 1)), (1 << (P - 1)) - 1
S3, S4, U2, U4 = (3, True), (4, True), (2, False), (4, False)


def rounded(x, shift):
    """x 2^-shift to the nearest integer, halves up, saturated to P bits."""
    return min(max((x + (1 << shift >> 1)) >> shift, LOW), HIGH)


@pytest.mark.parametrize("shift", [0, 1, 3])
def test_dot_product_with_bias(check, shift):
    def dot(builder, a, b, x, y, z):
        return cells.dot_cell(builder, [a, b], [x, y], z, bias_shift=1, shift=shift, width=P)

    check(
        dot, [S3, U2, S3, U2, U2], lambda a, b, x, y, z: rounded(a * x + b * y + 2 * z, shift), samples=0, depth=8 + 2
    )


@pytest.mark.parametrize("shift", [1, 2])
def test_fused_product(check, shift):
    fused = partial(cells.fused_cell, shift=shift, width=P)
    check(fused, [S4, S4, S4], lambda x, y, z: rounded(x * y + (z << shift), shift), samples=0, depth=8 + 2)


def test_mix_rounds_halves_up(check):
    mix = partial(cells.mix_cell, coefficients=(3, -2), shift=2, width=P)
    check(mix, [S4, S4], lambda x, y: rounded(3 * x - 2 * y, 2), samples=0, depth=7 + 2)


def test_sums_of_squares(check):
    def squares(builder, *xs):
        return cells.square_sum_cell(builder, xs, plus=1, shift=1, width=P)

    def centred(builder, *xs):
        return cells.centred_square_sum_cell(builder, xs, cells.total_cell(builder, xs, 0))

    check(squares, [S3] * 3, lambda *x: rounded(sum(v * v for v in x) + 1, 1), samples=0, depth=8 + 2)
    check(centred, [S3] * 3, lambda *x: sum((3 * v - sum(x)) ** 2 for v in x) + 1, samples=0, depth=7 + 8)


def test_numbers_without_a_choice_are_constants():
    """Rounding or clamping may leave one value only; bits with nodes would then be no argument of the next cell."""
    builder = Builder()
    x = Number(input_number(builder, 2, signed=False).bits, 0, 3)
    rounded = cells.mix_cell(builder, x, constant(20), coefficients=(1, 1), shift=3, width=8)
    clamped = cells.mix_cell(builder, x, constant(7), coefficients=(1, 1), shift=0, width=4)
    chosen = cells.select_cell(builder, cells.one_hot_cell(builder, x, 3), [constant(-1)] * 3)
    flat = cells.apply_cell(builder, Number(x.bits, 0, 3), function("exp_minus", 0, 127, 0, 0), "table")
    far = cells.mix_cell(builder, x, constant(40), coefficients=(1, 1), shift=0, width=8)
    zero = cells.apply_cell(builder, far, function("exp_minus", 0, 127, 0, 0), "table")
    assert (rounded, clamped, chosen, zero) == (constant(3), constant(7), constant(-1), constant(0))
    assert flat.hi == 1


@pytest.mark.parametrize("shift", [0, 1, 2, 5])
def test_ceiling(check, shift):
    def ceiling(builder, *xs):
        return cells.ceiling_cell(builder, xs, shift)

    check(ceiling, [S4, S3, U2], lambda *xs: 1 + max(x >> shift for x in xs), samples=0, depth=3)


@pytest.mark.parametrize("width", [S4, U4])
def test_at_least_one(check, width):
    check(cells.at_least_one_cell, [width], lambda x: max(x, 1), samples=0, depth=1)


@pytest.mark.parametrize(("root", "name"), [(1, "reciprocal"), (2, "rsqrt")])
def test_inverse(check, root, name):
    bits = 3
    table = function(name, 1 << bits, (1 << (bits + root)) - 1, bits, bits)

    def inverse(builder, x):
        argument = Number(x.bits, 1, x.hi)
        return cells.inverse_cell(builder, argument, table, bits=bits, root=root, backend="table")

    def reference(x):
        exponent = (x.bit_length() - 1) // root
        return [table(int(x * 2.0 ** (bits - root * exponent))), 1 << exponent]

    check(inverse, [(7, False)], reference, samples=[[x] for x in range(1, 128)], depth=1 + 2 + 2)


def test_rescale(check):
    def rescale(builder, x, factor, power):
        return cells.rescale_cell(builder, x, factor, power, shift=2, width=P)

    def reference(x, factor, power):
        return rounded(x * factor, 1 + power.bit_length())

    points = [[x, f, 1 << e] for x in range(-32, 32) for f in range(8) for e in range(4)]
    check(rescale, [(6, True), (3, False), (4, False)], reference, samples=points, depth=8 + 2 + 2)


def test_lookup(check):
    entries = [constant(v) for v in (5, -3, 0, 7, 7)]

    def look_up(builder, index, a, b):
        one_hot = cells.one_hot_cell(builder, index, 5)
        return [cells.select_cell(builder, one_hot, entries), cells.select_cell(builder, one_hot, [a, b, a, b, a])]

    def reference(index, a, b):
        place = min(index, 4)
        return [(5, -3, 0, 7, 7)[place], (a, b, a, b, a)[place]]

    check(look_up, [(3, False), S3, S4], reference, samples=0, depth=1 + 2)


def test_results_of_detached_cells_share_no_node():
    builder = Builder()
    x = input_number(builder, 4)
    copies = cells.detached(lambda b, y: [y, y])(builder, x)
    nodes = np.array([[bit.nodes[0] for bit in number.bits] for number in [x, *copies]])
    assert len(np.unique(nodes)) == nodes.size
