"""Float operations against exact rational arithmetic, every pair of floats of a small format."""

import itertools
import math
from fractions import Fraction

import numpy as np
import pytest

from flowgression.circuits import evaluate
from flowgression.circuits.arithmetic import floating
from flowgression.circuits.arithmetic.floating import Float, Format, input_float
from flowgression.circuits.builder import Builder

FORM = Format(3, 3)


def all_floats(form):
    """(sign, m, k) of every float; zero has sign 0 and the lowest exponent."""
    normal = itertools.product((0, 1), range(1 << (form.p - 1), 1 << form.p), range(form.lowest, form.highest + 1))
    return [(0, 0, form.lowest), *normal]


def value(float_):
    sign, m, k = float_
    return (-1) ** sign * Fraction(m) * Fraction(2) ** k


def nearest(x, form):
    """The float for an exact result: nearest, ties to even, saturating, 0 below the smallest normal one."""
    size = abs(Fraction(x))
    if size < Fraction(2) ** (form.p - 1 + form.lowest):
        return (0, 0, form.lowest)
    k = math.floor(math.log2(size)) - form.p + 1
    while size >= Fraction(2) ** (k + form.p):
        k += 1
    while size < Fraction(2) ** (k + form.p - 1):
        k -= 1
    m = round(size / Fraction(2) ** k)  # Python rounds a Fraction to even
    if m == 1 << form.p:
        m, k = m // 2, k + 1
    if k > form.highest:
        m, k = (1 << form.p) - 1, form.highest
    return (int(x < 0), m, k)


def run(form, operation, cases):
    """Build operation(builder, form, *floats) and evaluate it on tuples of floats; decoded results and depth."""
    builder = Builder()
    result = operation(builder, form, *[input_float(builder, form) for _ in cases[0]])
    single = not isinstance(result, Float)
    circuit = builder.finish([result] if single else [result.sign, *result.magnitude.bits, *result.exponent.bits])
    mask = (1 << form.e) - 1
    words = np.array([[s | m << 1 | (k & mask) << (1 + form.p) for s, m, k in case] for case in cases])
    encoded = (words[..., None] >> np.arange(1 + form.p + form.e) & 1).astype(bool).reshape(len(cases), -1)
    bits = evaluate(circuit, encoded).astype(int)
    if single:
        return bits[:, 0].tolist(), circuit.statistics().depth
    m = bits[:, 1 : 1 + form.p] @ (1 << np.arange(form.p))
    k = bits[:, 1 + form.p :] @ (1 << np.arange(form.e))
    k = k - (k > form.highest) * (1 << form.e)
    return list(zip(bits[:, 0].tolist(), m.tolist(), k.tolist(), strict=True)), circuit.statistics().depth


FLOATS = all_floats(FORM)
PAIRS = list(itertools.product(FLOATS, FLOATS))


@pytest.mark.parametrize(
    ("operation", "exact", "depth"),
    [
        (floating.add, lambda a, b: a + b, 31),
        (floating.multiply, lambda a, b: a * b, 31),
        (floating.divide, lambda a, b: a / b, 48),
    ],
)
def test_every_pair(operation, exact, depth):
    cases = [pair for pair in PAIRS if operation is not floating.divide or pair[1][1]]
    found, measured = run(FORM, operation, cases)
    expected = [nearest(exact(value(a), value(b)), FORM) for a, b in cases]
    assert found == expected
    assert measured <= depth


def test_comparison_of_every_pair():
    found, depth = run(FORM, floating.greater_equal, PAIRS)
    assert found == [int(value(a) >= value(b)) for a, b in PAIRS]
    assert depth <= 12


def test_floor_of_every_float():
    cases = [(x,) for x in FLOATS]
    found, depth = run(FORM, floating.floor, cases)
    assert found == [nearest(math.floor(value(x)), FORM) for x in FLOATS]
    assert depth <= 22


@pytest.mark.parametrize("form", [FORM, Format(4, 3), Format(5, 4)])
def test_square_root_of_every_float(form):
    cases = [(x,) for x in all_floats(form) if x[0] == 0]
    found, depth = run(form, floating.square_root, cases)
    # 60 more bits than the format has, with a sticky bit, round as the exact root does.
    expected = []
    for (x,) in cases:
        scaled = value(x) * Fraction(4) ** 60
        root = math.isqrt(int(scaled))
        expected.append(nearest((root + Fraction(root * root != scaled, 2)) / Fraction(2) ** 60, form))
    assert found == expected
    assert depth <= 17


@pytest.mark.parametrize("form", [FORM, Format(5, 4)])
def test_exponential_is_within_one_last_place(form):
    cases = [(x,) for x in all_floats(form)]
    found, depth = run(form, floating.exponential, cases)
    largest = value((0, (1 << form.p) - 1, form.highest))
    smallest = Fraction(2) ** (form.p - 1 + form.lowest)
    for (x,), result in zip(cases, found, strict=True):
        exact = math.exp(min(max(float(value(x)), -80.0), 80.0))
        if exact >= largest:
            assert value(result) == largest
        elif exact < smallest * (1 - 2.0**-form.p):
            assert value(result) in (0, smallest)
        else:
            assert abs(float(value(result)) - exact) <= max(2.0 ** result[2], float(smallest))
    assert depth <= 38


@pytest.mark.parametrize("m", [3, 6])
@pytest.mark.parametrize(("operation", "exact"), [(floating.add, sum), (floating.multiply, math.prod)])
def test_iterated_operations_round_once(operation, exact, m):
    generator = np.random.default_rng(m)
    cases = [tuple(FLOATS[i] for i in row) for row in generator.integers(0, len(FLOATS), (500, m))]
    found, depth = run(FORM, operation, cases)
    assert found == [nearest(exact([value(x) for x in case]), FORM) for case in cases]
    assert depth <= 31
