"""The operations a model is written in. Three interpreters implement them: integers, gates, and types for counting.

Letters: p and f of the Precision; tensors are NumPy arrays (of int64, of Numbers, or of type indices), so layers may
index, reshape, transpose and concatenate them. Every operation is exact integer arithmetic up to one final division
by 2^shift, rounded to nearest (halves up: half is added before the shift, one more constant of a sum), and
saturation to p bits, so that the interpreters agree bit for bit.
"""

from abc import ABC, abstractmethod

import numpy as np

from flowgression.circuits.arithmetic.functions import Function, function
from flowgression.circuits.lower.precision import Precision

Tensor = np.ndarray
"""int64, object (Numbers) or int32 (types), depending on the interpreter."""


class Ops(ABC):
    """Operations on tensors in the interpreter's own element type. `...` stands for leading dimensions that
    broadcast.
    """

    def __init__(self, precision: Precision):
        self.precision = precision

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
        """x [..., D] -> [...]: sum of squares plus a constant (1: so that it has a leading one), divided by 2^shift,
        saturated unless `exact`."""

    @abstractmethod
    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        """x [..., D] and its sum [...] -> D^2 sum x^2 - D total^2 + 1, exact: the sum of squares of D x - total,
        plus 1.
        """

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

    # ---- written in the operations above, the same for every interpreter ----

    def add(self, x: Tensor, y: Tensor) -> Tensor:
        """x + y, saturated."""
        return self.mix((1, 1), x, y)

    def multiply(self, x: Tensor, y: Tensor) -> Tensor:
        """x y elementwise, divided by 2^f, saturated."""
        return self.matmul(x[..., None, None], y[..., None, None], shift=self.precision.f)[..., 0, 0]

    def parameter(self, values: np.ndarray, fraction: int | None = None) -> Tensor:
        """Real values as p-bit constants with so many fraction bits (None: f, the format of activations)."""
        return self.constant(self.precision.quantise(values, fraction))

    def activation(self, x: Tensor, name: str) -> Tensor:
        """silu, gelu or another function of p-bit numbers, result in the same format."""
        p = self.precision
        return self.apply(x, function(name, p.low, p.high, p.f, p.f))
