"""Formats by ranges: fractions, functions of any range, softmax of any logits, and no silent overflow."""

from itertools import pairwise

import numpy as np
import pytest

from flowgression import InputError
from flowgression.circuits import outline
from flowgression.circuits.arithmetic.functions import function
from flowgression.circuits.arithmetic.number import input_number
from flowgression.circuits.arithmetic.remainder import apply_crt
from flowgression.circuits.builder import Builder
from flowgression.circuits.compile import Input, Precision, Program, interpret
from flowgression.circuits.lower import attention
from flowgression.circuits.lower.integers import IntegerOps
from flowgression.circuits.programs import EXP_POLYNOMIAL
from flowgression.circuits.scaling import family_of, flowar_family, logarithmic, measure, with_measured_ranges

ATTENTION = Program(
    "softmax",
    {"q": Input((6, 4), value="q"), "k": Input((9, 4), value="k"), "v": Input((9, 4), value="v")},
    lambda ops, t: {"y": attention.softmax_attention(ops, t["q"], t["k"], t["v"], "mixed")},
)


def test_fractions_follow_from_ranges():
    precision = Precision(8, ranges={"small": 0.1, "one": 1.0, "wide": 17.0, "huge": 1000.0, "zero": 0.0})
    found = {name: precision.fraction_of(name) for name in precision.ranges}
    assert found == {"small": 10, "one": 6, "wide": 2, "huge": -3, "zero": 7}
    for name, value in precision.ranges.items():
        assert precision.quantise(np.array(value), found[name]) <= precision.high
    with pytest.raises(InputError, match="did you mean 'wide'"):
        precision.fraction_of("wides")
    with pytest.raises(InputError, match="give one of both"):
        Precision(8, 4, {})


@pytest.mark.parametrize("name", ["exp_minus", "gelu", "gelu_tanh", "silu", "softplus_minus"])
def test_functions_are_evaluated_exactly_at_once(name):
    """float64 with an error bound decides; every value equals that by Python's integers."""
    made = function(name, -512, 511, 7, 9)
    assert made.coefficients
    np.testing.assert_array_equal(made.values, [made(x) for x in range(-512, 512)])
    wide = function(name, -(1 << 17), (1 << 17) - 1, 14, 12)  # 18 bits, evaluated at some places only
    x = np.random.default_rng(0).integers(wide.lo, wide.hi, (5, 60))
    np.testing.assert_array_equal(wide.evaluate(x), [[wide(int(each)) for each in row] for row in x])


def test_a_function_beyond_polynomials_is_a_table():
    made = function("gelu", -2048, 2047, 4, 4)  # over [-128, 128)
    assert made.table is not None
    assert abs(made(-2048)) == 0
    assert made(2047) == 2047
    with pytest.raises(InputError, match="use backend 'table'"):
        apply_crt(Builder(), made, input_number(Builder(), 12))


def test_softmax_of_large_logits_approaches_the_real_one():
    """Logits up to 17 in magnitude and beyond, which one format with range 8 cannot hold."""
    generator = np.random.default_rng(0)
    q, k, v = (generator.standard_normal((20, n, 4)) for n in (6, 9, 9))
    scores = (q := 5 * q) @ np.swapaxes(k, -1, -2)
    assert np.abs(scores).max() > 17
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    expected = weights / weights.sum(-1, keepdims=True) @ v
    largest = {"mixed.scores": scores, "q": q, "k": k, "v": v}
    ranges = {name: float(np.abs(values).max()) for name, values in largest.items()}

    def error(precision):
        inputs = ATTENTION.quantise(precision, {"q": q, "k": k, "v": v})
        return np.abs(interpret(ATTENTION, precision, inputs).real("y") - expected).max()

    assert error(Precision(16)) > 0.5
    errors = [error(Precision(bits, ranges=ranges)) for bits in (8, 12, 16, 20)]
    assert all(b < a / 4 for a, b in pairwise(errors)), errors
    assert errors[-1] < 1e-3


@pytest.mark.parametrize(
    "run",
    [
        lambda ops, x: ops.matmul(x, x, shift=1),
        lambda ops, x: ops.square_sum(x),
        lambda ops, x: ops.total(x << 29),
        lambda ops, x: ops.mix((1 << 31,), x),
        lambda ops, x: ops.fused(x, x, x),
        lambda ops, x: ops.centred_square_sum(x, x.sum(-1)),
        lambda ops, x: ops.rescale(x, x, np.int64(1) << np.int64(60), 5),
    ],
)
def test_no_integer_overflows_unnoticed(run):
    with pytest.raises(InputError, match="could overflow"):
        run(IntegerOps(Precision(8)), np.full((2, 4), 1 << 32, dtype=np.int64))


def test_rescale_is_exact_where_the_product_needs_more_than_64_bits():
    generator = np.random.default_rng(0)
    x, factor = generator.integers(-(1 << 50), 1 << 50, 200), generator.integers(0, 1 << 21, 200)
    power = np.int64(1) << generator.integers(28, 34, 200)
    found = IntegerOps(Precision(24)).rescale(x, factor, power, 21)
    exact = [((int(a) * int(b) + (int(c) << 20)) // (int(c) << 21)) for a, b, c in zip(x, factor, power, strict=True)]
    np.testing.assert_array_equal(found, np.clip(exact, -(1 << 23), (1 << 23) - 1))


@pytest.mark.parametrize("measured", [False, pytest.param(True, marks=pytest.mark.slow)])
def test_depth_of_fastflowar_is_the_same_for_every_n(measured):
    family = flowar_family([(1, 2), (1, 3)], polynomial_coefficients=EXP_POLYNOMIAL)
    scaling = measure(with_measured_ranges(family) if measured else family, Precision(5))
    assert scaling.same_depth


def test_depth_does_not_grow_with_logarithmic_bits():
    """p = 3 log2 n: the nominal bound is the same, and the measured depth stays below it."""
    family = family_of("arflow", (2, 3), 2)
    scaling = measure(family, logarithmic(3.0))
    assert scaling.bits == (4, 5)
    assert max(scaling.depths) <= scaling.nominal
    nominal = {outline(p, Precision(b)).depth for p, b in zip(family.programs, scaling.bits, strict=True)}
    assert len(nominal) == 1
