"""The relative minimax polynomial against published coefficients, its characterisation and its bounds."""

import math
import random
from decimal import Decimal, getcontext

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.ops import degree_for, minimax_exp
from flowgression.ops.lowrank import size_rule
from flowgression.ops.lowrank.minimax import SLACK, horner

KNOWN = {
    (2, 1.0): [1.0270268, 1.113879, 0.4693513],
    (4, 1.0): [0.9996279, 0.9979387, 0.5028987, 0.1764862, 0.0399629],
}
GRID = [(g, b) for g in (2, 4, 6, 8) for b in (0.5, 1.0, 2.0, 4.0, 8.0, 12.0)]


def relative_error(coefficients, x):
    return horner(coefficients, x) * torch.exp(-x) - 1


def test_horner_is_the_sum_of_powers_with_its_derivatives():
    """Its additions are in place, which no derivative may notice."""
    coefficients = (0.5, -1.25, 2.0, 0.75, -0.5)
    x = torch.linspace(-2, 2, 9, dtype=torch.float64, requires_grad=True)
    powers = sum(c * x**j for j, c in enumerate(coefficients))
    torch.testing.assert_close(horner(coefficients, x), powers)
    assert torch.autograd.gradcheck(lambda x: horner(coefficients, x), x)
    assert torch.autograd.gradgradcheck(lambda x: horner(coefficients, x), x)


@pytest.mark.parametrize(("degree", "bound"), KNOWN)
def test_known_coefficients(degree, bound):
    assert minimax_exp(degree, bound).coefficients == pytest.approx(KNOWN[degree, bound], abs=1e-7)


@pytest.mark.parametrize(("degree", "bound"), GRID)
def test_error_levels_off_with_alternating_signs(degree, bound):
    # Chebyshev's criterion: a polynomial is the best one if its error takes its largest size degree + 2 times, with
    # alternating signs. By de la Vallee Poussin the smallest of these peaks bounds the best error from below.
    coefficients, _ = minimax_exp(degree, bound)
    error = relative_error(coefficients, torch.linspace(-bound, bound, 20_001, dtype=torch.float64))
    changes = torch.nonzero(error[1:].sign() != error[:-1].sign()).flatten() + 1
    peaks = [part.abs().max().item() for part in error.tensor_split(changes)]
    assert len(peaks) == degree + 2
    assert min(peaks) >= max(peaks) * (1 - 1e-3) - 1e-14
    assert max(peaks) < 1


@pytest.mark.parametrize(("degree", "bound"), [*GRID, (12, 4.0), (20, 5.0), (20, 12.0)])
def test_eps_is_a_close_upper_bound_in_exact_arithmetic(degree, bound):
    """At random points of the interval and of the 2^-17 of it beyond, with 60 digits."""
    getcontext().prec = 60
    coefficients, eps = minimax_exp(degree, bound)
    numbers = random.Random(degree)
    reach = Decimal(bound) * (1 + Decimal(SLACK))
    points = [reach * Decimal(math.cos(numbers.uniform(0, math.pi))) for _ in range(400)] + [reach, -reach]

    def error(x):
        return abs(sum(Decimal(c) * x**j for j, c in enumerate(coefficients)) * (-x).exp() - 1)

    largest = float(max(map(error, points)))
    assert 0.98 * eps - 1e-14 <= largest <= eps


@pytest.mark.parametrize(("degree", "bound"), [case for case in GRID if size_rule(*case) < 1])
def test_size_rule_is_a_close_upper_bound(degree, bound):
    eps = minimax_exp(degree, bound).eps
    assert 0.25 * size_rule(degree, bound) < eps <= size_rule(degree, bound) * (1 + 1e-3)


@pytest.mark.parametrize(("degree", "bound"), GRID)
def test_positive_everywhere(degree, bound):
    x = torch.linspace(-100 * bound, 100 * bound, 20_001, dtype=torch.float64)
    assert (horner(minimax_exp(degree, bound).coefficients, x) > 0).all()


@settings(deadline=None, max_examples=25)
@given(st.floats(0.1, 4.0), st.floats(1e-8, 0.5))
def test_degree_for_is_the_smallest_that_reaches_eps(bound, eps):
    degree = degree_for(bound, eps)
    assert degree % 2 == 0
    assert minimax_exp(degree, bound).eps <= eps * (1 + 1e-3)
    assert degree == 2 or size_rule(degree - 2, bound) > eps


def test_size_rule_by_hand():
    assert size_rule(4, 2.0) == pytest.approx(2 / math.factorial(5))
    assert degree_for(1.0, 5.3e-4) == 4


def test_beats_taylor_and_chebyshev():
    x = torch.linspace(-2, 2, 4001, dtype=torch.float64)
    taylor = relative_error([1 / math.factorial(j) for j in range(5)], x).abs().max().item()
    nodes = 2 * torch.cos(torch.pi * (torch.arange(5, dtype=torch.float64) + 0.5) / 5)
    chebyshev = torch.linalg.solve(torch.linalg.vander(nodes), nodes.exp())
    interpolant = relative_error(chebyshev.tolist(), x).abs().max().item()
    assert minimax_exp(4, 2.0).eps < interpolant / 1.5 < taylor / 1.5


@pytest.mark.parametrize(
    ("degree", "bound", "message"),
    [
        (3, 1.0, "degree=3 must be an even number.*degree=4"),
        (0, 1.0, "degree=0 must be an even number"),
        (4, 0.0, "bound=0.0 must be a finite number > 0"),
        (4, -1.0, "bound=-1.0 must be a finite number > 0"),
        (4, math.nan, "bound=nan must be a finite number > 0"),
        (4, 20.0, r"bound=20.0 is above 12.0"),
        (12, 0.1, r"degree=12 .* beyond float64: degree=8 "),
    ],
)
def test_bad_arguments(degree, bound, message):
    with pytest.raises(InputError, match=message):
        minimax_exp(degree, bound)


@pytest.mark.parametrize("eps", [0.0, 1.0, -0.1])
def test_degree_for_refuses_impossible_eps(eps):
    with pytest.raises(InputError, match=r"eps=.* between 0 and 1"):
        degree_for(1.0, eps)


def test_coefficients_are_found_whatever_the_default_device() -> None:
    with torch.device("meta"):
        found = minimax_exp(2, 0.987)
    assert all(math.isfinite(c) for c in found.coefficients)
