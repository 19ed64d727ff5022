"""Functions of one number: their exact integer definition, and the `table` back end.

A function is DEFINED by an integer polynomial P and a shift: y = floor((P(u) + 2^(s-1)) / 2^s), u = x - centre. Both
back ends (`table` here, `crt` in remainder.py) compute this y, so they agree bit for bit; `Function.error` is its
largest distance to the real function, in units of the result's last place, measured on every argument (or on a grid
for p > 14).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property

import numpy as np

from flowgression.circuits.arithmetic.number import Number, width_of
from flowgression.circuits.builder import Builder, telescope_bits
from flowgression.errors import InputError, did_you_mean

EXHAUSTIVE_BITS = 14


@dataclass(frozen=True)
class Function:
    """Integer function on lo..hi with values in low..high. coefficients: P's, constant term first; shift: s."""

    name: str
    lo: int
    hi: int
    centre: int
    coefficients: tuple[int, ...] = field(repr=False)
    shift: int
    low: int
    high: int
    error: float = field(compare=False)

    @property
    def key(self) -> tuple[object, ...]:
        return (self.name, self.lo, self.hi, self.shift, self.low, self.high)

    def polynomial(self, x: int) -> int:
        """P(x - centre), exactly."""
        total = 0
        for c in reversed(self.coefficients):
            total = total * (x - self.centre) + c
        return total

    def __call__(self, x: int) -> int:
        return (self.polynomial(x) + (1 << self.shift >> 1)) >> self.shift

    @cached_property
    def values(self) -> np.ndarray:
        """int64 [hi - lo + 1]: the value at every argument."""
        return np.array([self(x) for x in range(self.lo, self.hi + 1)], dtype=np.int64)


def apply_table(builder: Builder, function: Function, x: Number) -> Number:
    """function(x) by one bank over all arguments. Depth 2, at most hi - lo gates and one per bit of the
    result: polynomial size only for p = O(log n).

    x must lie in the function's domain.
    """
    if x.lo < function.lo or x.hi > function.hi:
        raise InputError(
            f"{function.name} is defined on {function.lo}..{function.hi}, "
            f"the number lies in {x.lo}..{x.hi}: clamp it first."
        )
    values = function.values
    reachable = values[x.lo - function.lo : x.hi - function.lo + 1]
    low, high = int(reachable.min()), int(reachable.max())
    ends = (function.lo, function.hi)

    def value(v: int) -> int:  # sums outside the interval never occur, so they may take any value
        return int(values[min(max(v, ends[0]), ends[1]) - ends[0]])

    bits = telescope_bits(builder, x.terms(), width_of(low, high), value)
    return Number(tuple(bits), low, high)


def fit(
    name: str,
    real: Callable[[np.ndarray], np.ndarray],
    lo: int,
    hi: int,
    fraction: int,
    result_fraction: int,
    tolerance: float = 0.25,
    low: int | None = None,
) -> Function:
    """The least polynomial whose values are within 1/2 + tolerance last places of 2^result_fraction real(x
    2^-fraction).

    Chebyshev interpolation in float64, then exact rational arithmetic. `low` asks the result to stay at or above it.
    Raises InputError if no degree below 48 suffices.
    """
    centre = (lo + hi + 1) // 2
    radius = max(hi - centre, centre - lo, 1)
    points = (
        np.arange(lo, hi + 1)
        if hi - lo < 1 << EXHAUSTIVE_BITS
        else np.linspace(lo, hi, 1 << 13).round().astype(np.int64)
    )
    exact = np.ldexp(real(np.ldexp(points.astype(np.float64), -fraction)), result_fraction)

    def scaled(z: np.ndarray) -> np.ndarray:
        return np.ldexp(real(np.ldexp(centre + radius * z, -fraction)), result_fraction)

    for degree in range(1, 48):
        series = np.polynomial.chebyshev.Chebyshev.interpolate(scaled, degree)
        if np.abs(series((points - centre) / radius) - exact).max() < tolerance * 0.9:
            break
    else:
        raise InputError(
            f"{name} needs a polynomial of degree 48 or more at {result_fraction} fraction bits: use fewer."
        )
    monomials = _to_monomials([Fraction(float(c)) for c in series.coef])
    shift = 4 + max(1, degree + 1).bit_length() + degree * radius.bit_length()
    coefficients = tuple(round(c * 2**shift / radius**k) for k, c in enumerate(monomials))
    draft = Function(name, lo, hi, centre, coefficients, shift, 0, 0, 0.0)
    sampled = np.array([draft(int(x)) for x in points])
    error = float(np.abs(sampled - exact).max())
    bottom, top = int(sampled.min()), int(sampled.max())
    if error > 0.5 + tolerance or (low is not None and bottom < low):
        raise InputError(f"{name}: the polynomial misses its tolerance (error {error:.2f} last places).")
    if len(points) <= hi - lo:  # a grid may miss the extremes by a last place
        bottom, top = bottom - 1 if low is None else low, top + 1
    return Function(name, lo, hi, centre, coefficients, shift, bottom, top, error)


def _to_monomials(chebyshev: list[Fraction]) -> list[Fraction]:
    """Coefficients of T_k to coefficients of z^k, exactly."""
    previous, current = [Fraction(1)], [Fraction(0), Fraction(1)]
    result = [Fraction(0)] * len(chebyshev)
    for k, c in enumerate(chebyshev):
        basis = previous if k == 0 else current
        for i, b in enumerate(basis):
            result[i] += c * b
        if k:
            doubled = [Fraction(0)] + [2 * b for b in current]
            for i, b in enumerate(previous):
                doubled[i] -= b
            previous, current = current, doubled
    return result


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))


REAL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": _gelu,
}


@cache
def function(name: str, lo: int, hi: int, fraction: int, result_fraction: int, scale: float = 1.0) -> Function:
    """scale * name(x) for x 2^-fraction on lo..hi, as a Function with `result_fraction` fraction bits.

    exp and rsqrt are never negative. Raises InputError for an unknown name.
    """
    if name not in REAL:
        raise InputError(f"unknown function {name!r}; {did_you_mean(name, REAL)}")
    low = 0 if name in ("exp", "reciprocal", "rsqrt", "sqrt") else None
    label = name if scale == 1.0 else f"{scale:.17g}*{name}"
    return fit(label, lambda x: scale * REAL[name](x), lo, hi, fraction, result_fraction, low=low)
