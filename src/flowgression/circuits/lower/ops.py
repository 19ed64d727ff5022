"""The operations a model is written in. The interpreters: integers, gates, types (counting), depths, real numbers.

Letters: p and f of the Precision; tensors are NumPy arrays (of int64, of Numbers, or of type indices), so layers may
index, reshape, transpose and concatenate them. Every operation is exact integer arithmetic up to one final division
by 2^shift, rounded to nearest (halves up: half is added before the shift, one more constant of a sum), and
saturation to p bits, so that the interpreters agree bit for bit.
"""

from abc import ABC, abstractmethod
from typing import Any

import numpy as np

from flowgression.circuits.arithmetic import functions
from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.lower.precision import Precision

Tensor = np.ndarray
"""int64, object (Numbers) or int32 (types), depending on the interpreter."""


class Ops(ABC):
    """Operations on tensors in the interpreter's own element type. `...` stands for leading dimensions that
    broadcast.
    """

    def __init__(self, precision: Precision):
        self.precision = precision

    @property
    def measured(self) -> bool:
        """Whether every value has a format of its own, by its measured range."""
        return self.precision.ranges is not None

    @abstractmethod
    def constant(self, integers: np.ndarray) -> Tensor:
        """p-bit integers known to the model's owner (weights, tables) as a tensor."""

    @abstractmethod
    def matmul(
        self, x: Tensor, y: Tensor, bias: Tensor | None = None, bias_shift: int = 0, shift: int = 0, exact: bool = False
    ) -> Tensor:
        """x [..., M, D], y [..., N, D] -> [..., M, N]: sum_d x y (+ bias [..., N] 2^bias_shift), divided by 2^shift,
        saturated unless `exact`."""

    @abstractmethod
    def fused(self, x: Tensor, y: Tensor, z: Tensor, shift: int | None = None) -> Tensor:
        """x y 2^-shift (None: f) + z elementwise, rounded once, saturated."""

    @abstractmethod
    def mix(self, coefficients: tuple[int, ...], *tensors: Tensor, shift: int = 0, exact: bool = False) -> Tensor:
        """sum_i coefficients[i] tensors[i] elementwise, divided by 2^shift, saturated unless `exact`."""

    @abstractmethod
    def total(self, x: Tensor, plus: int = 0) -> Tensor:
        """x [..., D] -> [...]: exact sum plus a constant."""

    @abstractmethod
    def square_sum(self, x: Tensor, plus: int = 1, shift: int = 0, exact: bool = True) -> Tensor:
        """x [..., D] -> [...]: sum of squares plus a constant (1: so that it has an MSB), divided by 2^shift,
        saturated unless `exact`."""

    @abstractmethod
    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        """x [..., D] and its sum [...] -> D^2 sum x^2 - D total^2 + 1, exact: the sum of squares of D x - total,
        plus 1.
        """

    @abstractmethod
    def ceiling(self, x: Tensor, shift: int) -> Tensor:
        """x [..., D] -> [...]: 1 + max_d floor(x_d 2^-shift), so that 2^shift times it is above every x_d."""

    @abstractmethod
    def at_least_one(self, x: Tensor) -> Tensor:
        """max(x, 1)."""

    @abstractmethod
    def apply(self, x: Tensor, function: Function) -> Tensor:
        """function(x) elementwise."""

    @abstractmethod
    def inverse(self, x: Tensor, function: Function, bits: int, root: int) -> tuple[Tensor, Tensor]:
        """x >= 1 -> (function(m), 2^e) with m = floor(x 2^(bits - root e)) and e the largest with 2^(root e) <= x."""

    @abstractmethod
    def rescale(self, x: Tensor, factor: Tensor, power: Tensor, shift: int) -> Tensor:
        """x factor / (2^shift power), rounded, saturated; shift >= 1; power is a power of two from `inverse`."""

    @abstractmethod
    def lookup(self, index: Tensor, table: np.ndarray) -> Tensor:
        """index [] and integers [V, ...] -> table[index] [...]; an index beyond the end gives the last entry."""

    # ---- the same for every interpreter on integers ----

    def fraction(self, name: str) -> int:
        """Fraction bits of the value of this name."""
        return self.precision.fraction_of(name)

    def record(self, name: str, data: Tensor, fraction: int) -> Tensor:
        """Told of every named value, which it returns; the interpreter on real numbers measures the range."""
        return data

    def quantise(self, values: np.ndarray, fraction: int) -> np.ndarray:
        """Real values as p-bit integers with so many fraction bits."""
        return self.precision.quantise(values, fraction)

    def coefficient(self, value: float) -> int:
        """A real constant as an integer, rounded to nearest."""
        return round(value)

    def parameter(self, values: np.ndarray, fraction: int | None = None) -> Tensor:
        """Real values as p-bit constants with so many fraction bits (None: f, the format of activations)."""
        return self.constant(self.quantise(values, self.precision.f if fraction is None else fraction))

    def function(self, name: str, lo: int, hi: int, fraction: int, result_fraction: int, scale: float = 1.0) -> Any:
        """A function to `apply`: scale * name(x) for integers lo..hi of so many fraction bits."""
        return functions.function(name, lo, hi, fraction, result_fraction, scale)
