"""A proved upper bound on the relative error of a polynomial against exp: a grid, and what may lie between its points.

Let f(x) = P(x) exp(-x) - 1. Between two points at a distance h, |f| is at most the larger |f| at the two plus
h^2 / 8 max |f''| (the error of linear interpolation). f'' = Q exp(-x) with Q = P'' - 2 P' + P has the same form, so it
is bounded by its values and its own second derivative, and so on; h^2 / 8 is so small that after three such steps the
crudest bound will do, the sum of absolute coefficients. P itself is evaluated by Horner's rule with its rounding errors
added up (Graillat, Langlois and Louvet 2005, "Compensated Horner Scheme"), which loses at most u |P(x)| +
gamma_2g^2 |P|(|x|), u = 2^-53; the derivatives need no such care.
"""

from collections.abc import Sequence
from fractions import Fraction

import torch
from torch import Tensor

_INTERVALS = 2**14
_LEVELS = 3
_UNIT = 2.0**-53
_EXP = 1 + 4 * _UNIT  # torch.exp is within two units in the last place


def largest_relative_error(coefficients: Sequence[float], bound: float) -> float:
    """An upper bound on |P(x) exp(-x) - 1| over [-bound, bound], for P(x) = sum_j coefficients[j] x^j."""
    x = torch.linspace(-bound, bound, _INTERVALS + 1, dtype=torch.float64)
    x[0], x[-1] = -bound, bound
    decay = torch.exp(-x) * _EXP
    value = _compensated_horner(coefficients, x)
    absolute = _horner([abs(c) for c in coefficients], x.abs())
    lost = _gamma(2 * len(coefficients)) ** 2 * absolute + _gamma(16) * value.abs()
    at_points = (value * torch.exp(-x) - 1).abs() + lost * decay + 2 * _UNIT
    second = _second_derivative([Fraction(c) for c in coefficients])
    return _between(at_points, _bound_on_intervals(second, x, decay, _LEVELS), x).amax().item()


def _bound_on_intervals(q: list[Fraction], x: Tensor, decay: Tensor, levels: int) -> Tensor:
    """Bounds on |Q(x) exp(-x)| over each interval between neighbours in x."""
    rounded = [float(c) for c in q]
    absolute = _horner([abs(c) for c in rounded], x.abs()) * (1 + _gamma(2 * len(q)))
    if not levels:
        return torch.maximum(absolute[1:], absolute[:-1]) * decay[:-1]
    at_points = (_horner(rounded, x).abs() + _gamma(2 * len(q) + 1) * absolute) * decay
    return _between(at_points, _bound_on_intervals(_second_derivative(q), x, decay, levels - 1), x)


def _between(at_points: Tensor, curvature: Tensor, x: Tensor) -> Tensor:
    """Bounds on |f| over each interval, from |f| at its ends and bounds on |f''| over it."""
    bounds = torch.maximum(at_points[1:], at_points[:-1]) + x.diff().amax() ** 2 / 8 * curvature
    return bounds * (1 + _gamma(16))


def _second_derivative(c: list[Fraction]) -> list[Fraction]:
    """The coefficients of P'' - 2 P' + P."""
    for _ in range(2):
        c = [(j + 1) * after - now for j, (now, after) in enumerate(zip(c, [*c[1:], Fraction(0)], strict=True))]
    return c


def _gamma(n: int) -> float:
    return n * _UNIT / (1 - n * _UNIT)


def _horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    for c in reversed(coefficients[:-1]):
        value = value * x + c
    return value


def _compensated_horner(coefficients: Sequence[float], x: Tensor) -> Tensor:
    value = torch.full_like(x, coefficients[-1])
    correction = torch.zeros_like(x)
    for c in reversed(coefficients[:-1]):
        product, of_product = _two_product(value, x)
        value = product + c
        of_c = value - product
        of_sum = (product - (value - of_c)) + (c - of_c)
        correction = correction * x + (of_product + of_sum)
    return value + correction


def _two_product(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """fl(a b) and its error, exactly (Dekker)."""
    product = a * b
    (a1, a2), (b1, b2) = _split(a), _split(b)
    return product, a2 * b2 - (((product - a1 * b1) - a2 * b1) - a1 * b2)


def _split(x: Tensor) -> tuple[Tensor, Tensor]:
    shifted = x * (2.0**27 + 1)
    high = shifted - (shifted - x)
    return high, x - high
