"""The polynomial nearest to exp in relative error on an interval, by the exchange algorithm of Remez.

Softmax divides by its own sum, so what matters of an approximation P of exp is the *relative* error: the polynomial
here minimises eps = max |P(x) exp(-x) - 1| over [-B, B]. Everything is float64 and cached.

Why even degrees are safe everywhere: the extrema of P(x) exp(-x) are the roots of P' - P. All g of them lie inside the
interval, where P > 0. Outside, P(x) exp(-x) is therefore monotone; it tends to 0 on the right and, for even g, to
+infinity on the left, so it never reaches zero. For odd g it tends to -infinity on the left, and so P changes sign.
"""

import math
from collections.abc import Iterable
from functools import lru_cache
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.ops.lowrank.supremum import largest_relative_error
from flowgression.ops.modes import outside_of_modes

MAX_BOUND = 12.0  # exp(2 B) is the condition number of P on the interval; beyond this, float64 does not resolve it
SLACK = 2.0**-17  # unit vectors of float32 are longer than 1 by up to (d / 2 + 3) 2^-24; enough for d up to 100
_FLOOR = 1e-14  # errors below this are rounding of float64
_ROUNDS = 60


class MinimaxPolynomial(NamedTuple):
    """P(x) = sum_j coefficients[j] x^j with |P(x) exp(-x) - 1| <= eps on [-(1 + SLACK) bound, (1 + SLACK) bound]."""

    coefficients: tuple[float, ...]
    eps: float


def check_degree(degree: int) -> None:
    """Raise InputError unless `degree` is a positive even number."""
    if not isinstance(degree, int) or degree < 2 or degree % 2:
        raise InputError(
            f"degree={degree} must be an even number >= 2: a polynomial of odd degree turns negative to the left of "
            "its interval, and the normaliser of the attention with it. "
            f"Use degree={max(2, math.ceil(degree / 2) * 2)}."
        )


def check_bound(bound: float) -> None:
    """Raise InputError unless `bound` is a positive finite number."""
    if not (math.isfinite(bound) and bound > 0):
        raise InputError(
            f"bound={bound} must be a finite number > 0: it bounds |logit|, and is tau for unit queries and keys."
        )


def size_rule(degree: int, bound: float) -> float:
    """2 (B/2)^(g+1) / (g+1)!, the leading term of the error; `minimax_exp(degree, bound).eps` is a little smaller."""
    return 2 * math.exp((degree + 1) * math.log(bound / 2) - math.lgamma(degree + 2))


def degree_for(bound: float, eps: float) -> int:
    """Smallest even degree whose `size_rule` on [-bound, bound] is at most `eps`.

    Args:
        bound: B > 0, a bound on |logit|.
        eps: relative error wanted of the polynomial, in (0, 1).

    Raises:
        InputError: a bound <= 0 or an eps outside (0, 1).

    >>> from flowgression.ops import degree_for
    >>> degree_for(bound=2.0, eps=1e-3)
    6
    """
    check_bound(bound)
    if not 0 < eps < 1:
        raise InputError(f"eps={eps} must lie between 0 and 1: it is a relative error.")
    degree = 2
    while size_rule(degree, bound) > eps:
        degree += 2
    return degree


@lru_cache(maxsize=256)
def minimax_exp(degree: int, bound: float) -> MinimaxPolynomial:
    """Relative minimax polynomial of exp on [-bound, bound].

    Args:
        degree: even, >= 2.
        bound: B in (0, 12].

    Returns:
        coefficients c_0..c_degree in the monomial basis, and eps: a proved bound for the polynomial returned; it holds
        also where rounding kept the algorithm from the last digits (and may reach 1 where the degree is hopeless).

    Raises:
        InputError: an odd degree, a bound outside (0, 12], or a degree so high that its error is below float64.
    """
    check_degree(degree)
    check_bound(bound)
    if bound > MAX_BOUND:
        raise InputError(
            f"bound={bound} is above {MAX_BOUND}: float64 cannot resolve a polynomial that follows exp over that "
            "range. Normalise queries and keys, centre the keys, or use exact attention."
        )
    if size_rule(degree, bound) < _FLOOR:
        enough = degree_for(bound, _FLOOR)
        raise InputError(
            f"degree={degree} on [-{bound}, {bound}] is beyond float64: degree={enough} reaches {_FLOOR} already."
        )
    with outside_of_modes():
        scaled, _ = _remez(degree, bound)
        coefficients = tuple((scaled / bound ** _powers(degree)).tolist())
        return MinimaxPolynomial(coefficients, largest_relative_error(coefficients, bound * (1 + SLACK)))


def _remez(degree: int, bound: float) -> tuple[Tensor, float]:
    """Coefficients in y = x / bound, and the largest relative error, of the best polynomial met."""
    grid = torch.linspace(-1, 1, 4001, dtype=torch.float64)
    nodes = -torch.cos(torch.pi * torch.arange(degree + 2, dtype=torch.float64) / (degree + 1))
    best = (torch.zeros(degree + 1, dtype=torch.float64), math.inf)
    for _ in range(_ROUNDS):
        scaled, levelled = _interpolate_levelled(nodes, degree, bound)
        nodes = _extrema(scaled, bound)
        eps = _relative_error(scaled, torch.cat([nodes, grid]), bound)
        if eps < best[1]:
            best = (scaled, eps)
        converged = eps - levelled <= 1e-6 * eps + _FLOOR
        if converged or (nodes.diff() <= 0).any():
            break
    return best


def _interpolate_levelled(nodes: Tensor, degree: int, bound: float) -> tuple[Tensor, float]:
    """The polynomial whose relative error is +-E with alternating signs at the g + 2 nodes, and |E|."""
    angles = torch.arccos(nodes)[:, None] * _powers(degree)
    signs = torch.ones_like(nodes)
    signs[1::2] = -1
    weighted = torch.cos(angles) * torch.exp(-bound * nodes)[:, None]
    solution = torch.linalg.solve(torch.cat([weighted, signs[:, None]], 1), torch.ones_like(nodes))
    return _chebyshev_to_monomial(solution[:-1]), solution[-1].abs().item()


def _extrema(scaled: Tensor, bound: float) -> Tensor:
    """The ends of [-1, 1] and the roots of P' - P, sorted: where P(x) exp(-x) - 1 is extreme. [g + 2]"""
    degree = scaled.numel() - 1
    slope = -scaled.clone()
    slope[:-1] += scaled[1:] * _powers(degree)[1:] / bound
    companion = torch.diag(torch.ones(degree - 1, dtype=torch.float64), -1)
    companion[:, -1] = -slope[:-1] / slope[-1]
    roots = torch.linalg.eigvals(companion).real.clamp(-1, 1).sort().values
    ends = torch.ones(1, dtype=torch.float64)
    return torch.cat([-ends, roots, ends])


def _relative_error(scaled: Tensor, y: Tensor, bound: float) -> float:
    return (horner(scaled.tolist(), y) * torch.exp(-bound * y) - 1).abs().max().item()


def _chebyshev_to_monomial(coefficients: Tensor) -> Tensor:
    """sum_j c_j T_j(y) as coefficients of the powers of y, by T_{j+1} = 2 y T_j - T_{j-1}."""
    size = coefficients.numel()
    before, current = torch.zeros(size, dtype=torch.float64), torch.eye(size, dtype=torch.float64)[0]
    total = coefficients[0] * current
    for j in range(1, size):
        before, current = current, (2 if j > 1 else 1) * current.roll(1) - before
        total = total + coefficients[j] * current
    return total


def _powers(degree: int) -> Tensor:
    return torch.arange(degree + 1, dtype=torch.float64)


def horner(coefficients: Iterable[float], x: Tensor) -> Tensor:
    """sum_j coefficients[j] x^j with at least two coefficients, elementwise, in the dtype of x."""
    first, *rest = reversed(list(coefficients))
    value: Any = first
    for c in rest:
        value = (value * x).add_(c)  # in place also with gradients: they need the factors, not the product
    return value
