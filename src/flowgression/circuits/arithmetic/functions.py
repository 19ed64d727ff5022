"""Functions of one number: their exact integer definition, and the `table` back end.

A function is DEFINED by an integer polynomial P and a shift: y = floor((P(u) + 2^(s-1)) / 2^s), u = x - centre. Both
back ends (`table` here, `crt` in remainder.py) compute this y, so they agree bit for bit; `Function.error` is its
largest distance to the real function, in units of the result's last place, measured on every argument (or on a grid
for p > 14). A function that no polynomial below degree 48 follows, such as GELU over a wide range, is defined by the
table of its rounded values instead; `crt` refuses it.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from functools import cache, cached_property

import numpy as np

from flowgression.circuits.arithmetic.number import Number, constant, width_of
from flowgression.circuits.builder import Builder, telescope_bits
from flowgression.errors import InputError, did_you_mean

EXHAUSTIVE_BITS = 14
TABLE_BITS = 20


@dataclass(frozen=True)
class Function:
    """Integer function on lo..hi with values in low..high. coefficients: P's, constant term first; shift: s.

    formats: fraction bits of argument and result. table: the values themselves where there is no polynomial.
    """

    name: str
    lo: int
    hi: int
    centre: int
    coefficients: tuple[int, ...] = field(repr=False)
    shift: int
    low: int
    high: int
    error: float = field(compare=False)
    formats: tuple[int, int] = (0, 0)
    table: np.ndarray | None = field(default=None, repr=False, compare=False)

    @property
    def key(self) -> tuple[object, ...]:
        return (self.name, self.lo, self.hi, self.shift, self.low, self.high, *self.formats)

    def polynomial(self, x: int) -> int:
        """P(x - centre), exactly."""
        total = 0
        for c in reversed(self.coefficients):
            total = total * (x - self.centre) + c
        return total

    def __call__(self, x: int) -> int:
        if self.table is not None:
            return int(self.table[x - self.lo])
        return (self.polynomial(x) + (1 << self.shift >> 1)) >> self.shift

    @cached_property
    def values(self) -> np.ndarray:
        """int64 [hi - lo + 1]: the value at every argument."""
        return self.table if self.table is not None else self.evaluate(np.arange(self.lo, self.hi + 1))

    def evaluate(self, x: np.ndarray) -> np.ndarray:
        """The polynomial's values at many arguments, int64 of the same shape, exactly.

        Horner's rule in float64 with its error bound 2 (k + 1) u sum |c_j z^j| (Higham, "Accuracy and Stability of
        Numerical Algorithms", section 5.1; doubled here); what it cannot decide is computed with Python's integers.
        """
        radius = 1 << max(abs(self.lo - self.centre), abs(self.hi - self.centre), 1).bit_length()
        scaled = [Fraction(c * radius**k, 1 << self.shift) for k, c in enumerate(self.coefficients)]
        z = (x - self.centre) / radius  # exact: radius is a power of two
        y, size = np.zeros(x.shape), np.zeros(x.shape)
        for c in reversed([float(c) for c in scaled]):
            y, size = y * z + c, size * np.abs(z) + abs(c)
        error = size * (4 * len(scaled) * 2.0**-53)
        floor = np.floor(y + 0.5)
        result = floor.astype(np.int64)
        distance = np.minimum(y + 0.5 - floor, floor + 1 - (y + 0.5))
        for where in np.argwhere(distance <= error + np.abs(y) * 2.0**-51):
            result[tuple(where)] = self(int(x[tuple(where)]))
        return result


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
    if low == high:
        return constant(low)
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
    Where no degree below 48 suffices, the table of rounded values (up to 2^20 of them).
    Raises InputError where that fails too.
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
        return _tabulate(name, real, lo, hi, fraction, result_fraction)
    monomials = _to_monomials([Fraction(float(c)) for c in series.coef])
    shift = 4 + max(1, degree + 1).bit_length() + degree * radius.bit_length()
    coefficients = tuple(round(c * 2**shift / radius**k) for k, c in enumerate(monomials))
    formats = (fraction, result_fraction)
    sampled = Function(name, lo, hi, centre, coefficients, shift, 0, 0, 0.0, formats).evaluate(points)
    error = float(np.abs(sampled - exact).max())
    bottom, top = int(sampled.min()), int(sampled.max())
    if error > 0.5 + tolerance or (low is not None and bottom < low):
        raise InputError(f"{name}: the polynomial misses its tolerance (error {error:.2f} last places).")
    if len(points) <= hi - lo:  # a grid may miss the extremes by a last place
        bottom, top = bottom - 1 if low is None else low, top + 1
    return Function(name, lo, hi, centre, coefficients, shift, bottom, top, error, formats)


def _tabulate(
    name: str, real: Callable[[np.ndarray], np.ndarray], lo: int, hi: int, fraction: int, result_fraction: int
) -> Function:
    if hi - lo >= 1 << TABLE_BITS:
        raise InputError(
            f"{name} needs a polynomial of degree 48 or more at {result_fraction} fraction bits: use fewer bits."
        )
    exact = np.ldexp(real(np.ldexp(np.arange(lo, hi + 1, dtype=np.float64), -fraction)), result_fraction)
    table = np.floor(exact + 0.5).astype(np.int64)
    formats = (fraction, result_fraction)
    return Function(name, lo, hi, 0, (), 0, int(table.min()), int(table.max()), 0.5, formats, table)


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
    return 0.5 * x * (1 + np.vectorize(math.erf, otypes=[float])(x / math.sqrt(2)))


def _gelu_tanh(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))


REAL: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "exp": np.exp,
    "reciprocal": lambda x: 1 / x,
    "rsqrt": lambda x: 1 / np.sqrt(x),
    "sqrt": np.sqrt,
    "silu": lambda x: x / (1 + np.exp(-x)),
    "gelu": _gelu,
    "gelu_tanh": _gelu_tanh,
    "exp_minus": lambda x: np.exp(-x),
    "softplus_minus": lambda x: np.logaddexp(0, -x),
}
"""exp_minus(x) = exp(-x); softplus_minus(x) = log(1 + exp(-x)), which is -logsigmoid(x)."""

POLYNOMIAL = "polynomial"


def polynomial_name(coefficients: Sequence[float]) -> str:
    """The name of sum_j coefficients[j] x^j, which `real_function` reads back exactly."""
    return " ".join([POLYNOMIAL, *(float(c).hex() for c in coefficients)])


def real_function(name: str) -> Callable[[np.ndarray], np.ndarray]:
    """The function of this name on real numbers. Raises InputError for an unknown one."""
    first, *coefficients = name.split(" ")
    if first == POLYNOMIAL and coefficients:
        return np.polynomial.Polynomial([float.fromhex(c) for c in coefficients])
    if name not in REAL:
        raise InputError(f"unknown function {name!r}; {did_you_mean(name, REAL)}")
    return REAL[name]


@cache
def function(name: str, lo: int, hi: int, fraction: int, result_fraction: int, scale: float = 1.0) -> Function:
    """scale * name(x) for x 2^-fraction on lo..hi, as a Function with `result_fraction` fraction bits.

    Functions that are never negative stay so. Raises InputError for an unknown name.
    """
    real = real_function(name)
    low = 0 if name in ("exp", "reciprocal", "rsqrt", "sqrt", "exp_minus", "softplus_minus") else None
    label = name if scale == 1.0 else f"{scale:.17g}*{name}"
    return fit(label, lambda x: scale * real(x), lo, hi, fraction, result_fraction, low=low)
