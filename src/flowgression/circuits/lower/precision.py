"""Fixed-point formats: how real weights and activations become integers."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flowgression.errors import InputError, did_you_mean


@dataclass(frozen=True)
class Precision:
    """p-bit two's complement with f fraction bits: the value x stands for x 2^-f. Weights have p bits and their own
    fraction.

    bits: p, 4 to 24.
    fraction: f; None takes p - 4 (activations in [-8, 8)). The format of every value, unless there are `ranges`.
    ranges: the largest magnitude of each named value of a model (calibrate.py measures them): each value then has as
        many fraction bits as its own range leaves, and the error falls with p whatever the ranges are. A value
        beyond its range saturates.

    Raises InputError for bits or a fraction out of range, or both a fraction and ranges.
    """

    bits: int = 8
    fraction: int | None = None
    ranges: Mapping[str, float] | None = field(default=None, repr=False)

    def __post_init__(self) -> None:
        if not 4 <= self.bits <= 24:
            raise InputError(f"bits is {self.bits}, expected 4 to 24.")
        if self.fraction is not None and self.ranges is not None:
            raise InputError(f"fraction is {self.fraction}, but ranges give each value its own; give one of both.")
        if self.fraction is None:
            object.__setattr__(self, "fraction", max(self.bits - 4, 1))
        if not 1 <= self.f <= self.bits - 1:
            raise InputError(f"fraction is {self.fraction}, expected 1 to {self.bits - 1} (bits - 1).")

    @property
    def f(self) -> int:
        assert self.fraction is not None
        return self.fraction

    @property
    def low(self) -> int:
        return -(1 << (self.bits - 1))

    @property
    def high(self) -> int:
        return (1 << (self.bits - 1)) - 1

    def quantise(self, values: np.ndarray, fraction: int | None = None) -> np.ndarray:
        """Real values to the nearest p-bit integers, saturating; int64 of the same shape."""
        scaled = np.ldexp(np.asarray(values, dtype=np.float64), self.f if fraction is None else fraction)
        return np.rint(scaled).clip(self.low, self.high).astype(np.int64)

    def fraction_of(self, name: str) -> int:
        """Fraction bits of the value of this name: f, or the most with which its range still fits into p bits.

        Negative for values beyond 2^(p-1). Raises InputError for a value without a measured range.
        """
        if self.ranges is None:
            return self.f
        if name not in self.ranges:
            raise InputError(f"no range was measured for the value {name!r}: {did_you_mean(name, self.ranges)}")
        return min(self._fitting(self.ranges[name]), 2 * self.bits)

    def weight_fraction(self, weights: np.ndarray) -> int:
        """The most fraction bits with which the largest weight still fits into p bits."""
        largest = float(max(weights.max(initial=0.0), -weights.min(initial=0.0)))
        if largest == 0.0:
            return self.f
        return min(max(self._fitting(largest), 0), 2 * self.bits)

    def _fitting(self, largest: float) -> int:
        if largest == 0.0:
            return self.bits - 1
        fraction = self.bits - 1 - math.frexp(largest)[1]
        while np.rint(np.ldexp(largest, fraction)) > self.high:
            fraction -= 1
        return fraction
