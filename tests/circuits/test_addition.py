"""Iterated addition: right for every input at small widths, depth 7 for every number of summands."""

import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression.circuits.arithmetic.addition import (
    DEPTH,
    add,
    add_terms,
    block_width,
    naf,
    subtract,
    weighted_sum,
)
from flowgression.circuits.arithmetic.number import Number, input_number
from flowgression.circuits.builder import Builder
from flowgression.circuits.ir import Port
from tests.circuits.sparse import evaluate_scipy


@pytest.mark.parametrize(("m", "width", "signed"), [(2, 4, True), (3, 3, True), (4, 3, False), (3, 4, False)])
def test_every_sum_of_small_numbers(check, m, width, signed):
    check(lambda b, *x: add(b, *x), [(width, signed)] * m, lambda *x: sum(x), samples=0, depth=DEPTH)


@pytest.mark.parametrize("m", [5, 8, 17, 64])
def test_random_sums(check, m):
    check(lambda b, *x: add(b, *x), [(8, m % 2 == 1)] * m, lambda *x: sum(x), depth=DEPTH)


def test_measured_size_of_64_bytes():
    builder = Builder(materialise=False)
    add(builder, *[input_number(builder, 8, signed=False) for _ in range(64)])
    statistics = builder.statistics()
    assert (statistics.depth, statistics.gates, statistics.wires) == (7, 787, 36452)
    assert statistics.largest_weight <= 8  # O(log m)


@pytest.mark.parametrize("m", [9, 100, 700])
def test_depth_does_not_grow_with_summands(m):
    builder = Builder(materialise=False)
    add(builder, *[input_number(builder, 6) for _ in range(m)])
    assert builder.statistics().depth == DEPTH


@pytest.mark.parametrize("coefficients", [(3, -5), (-1, -1), (7, 0), (-128, 100), (1, -1)])
def test_constant_coefficients(check, coefficients):
    a, c = coefficients
    check(
        lambda b, x, y: weighted_sum(b, [(a, x), (c, y)], 9), [(4, True), (4, True)], lambda x, y: a * x + c * y + 9, 0
    )


def test_difference_of_a_number_with_itself_cancels_to_zero():
    builder = Builder()
    x = input_number(builder, 5)
    result = add_terms(builder, x.terms() + x.terms(-1), 0, 0, 0)
    assert result.is_constant
    assert builder.statistics().gates == 0


def test_rows_that_cancel_leave_no_empty_gates(check):
    circuit = check(lambda b, x: subtract(b, add(b, x, x), Number(x.bits, x.lo, x.hi)), [(4, True)], lambda x: x, 0)
    assert all(len(circuit.row_of(g)[0]) for g in range(circuit.num_gates))


@given(st.integers(-(2**70), 2**70))
def test_naf_has_the_value_and_no_neighbours(value):
    digits = naf(value)
    assert sum(sign << position for sign, position in digits) == value
    positions = [position for _, position in digits]
    assert all(b - a >= 2 for a, b in itertools.pairwise(positions))


@given(st.integers(1, 10**6))
def test_block_width_is_the_least_that_fits(h):
    w = block_width(h)
    assert h * (2**w - 1) < 4**w
    assert w == 1 or h * (2 ** (w - 1) - 1) >= 4 ** (w - 1)


@settings(max_examples=25, deadline=None)
@given(
    st.lists(st.tuples(st.integers(-40, 40), st.integers(1, 6), st.booleans()), min_size=1, max_size=9),
    st.integers(-99, 99),
)
def test_any_weighted_sum_by_hypothesis(parts, const):
    builder = Builder()
    numbers = [input_number(builder, width, signed) for _, width, signed in parts]
    result = weighted_sum(builder, [(c, x) for (c, _, _), x in zip(parts, numbers, strict=True)], const)
    circuit = builder.finish(result.bits)
    inputs = np.random.default_rng(1).random((20, circuit.num_inputs)) < 0.5
    start, expected = 0, np.full(20, const)
    for coefficient, width, signed in parts:
        port = Port("x", (), width, signed)
        expected = expected + coefficient * port.decode(inputs[:, start : start + width])
        start += width
    found = Port("y", (), result.width, result.signed).decode(evaluate_scipy(circuit, inputs))
    np.testing.assert_array_equal(found, expected)
