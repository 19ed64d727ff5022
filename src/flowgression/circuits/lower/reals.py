"""The model on real numbers: what its source computes without any rounding, and how large each value gets.

Tensors are float64; the integer x of fraction f is the real number x 2^-f times 2^f, not rounded. Two uses: the
ranges of all named values on given inputs, from which fixed-point formats follow, and a comparison with PyTorch that
shows, to floating-point error, that the source is the right model. The one that guards a sum of squares against zero
is left out.
"""

from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.functions import real_function
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.lower.precision import Precision

TINY = 1e-300
"""Keeps a quotient by zero, of which only zero times it is used, finite."""


class RealFunction(NamedTuple):
    """scale * name on numbers of so many fraction bits."""

    name: str
    fraction: int
    result_fraction: int
    scale: float

    def __call__(self, x: np.ndarray) -> np.ndarray:
        return np.ldexp(self.scale * real_function(self.name)(np.ldexp(x, -self.fraction)), self.result_fraction)


class RealOps(Ops):
    """`ranges` collects the largest magnitude of each named value."""

    def __init__(self) -> None:
        super().__init__(Precision(8, ranges={}))
        self.ranges: dict[str, float] = {}

    def fraction(self, name: str) -> int:
        return 0

    def record(self, name: str, data: Tensor, fraction: int) -> Tensor:
        if name:
            found = float(np.abs(data).max(initial=0.0)) * 2.0**-fraction
            self.ranges[name] = max(self.ranges.get(name, 0.0), found)
        return data

    def quantise(self, values: np.ndarray, fraction: int) -> Any:
        return np.ldexp(np.asarray(values, dtype=np.float64), fraction)

    def coefficient(self, value: float) -> Any:
        return value

    def function(self, name: str, lo: int, hi: int, fraction: int, result_fraction: int, scale: float = 1.0) -> Any:
        return RealFunction(name, fraction, result_fraction, scale)

    def constant(self, integers: np.ndarray) -> Tensor:
        return np.asarray(integers, dtype=np.float64)

    def matmul(
        self, x: Tensor, y: Tensor, bias: Tensor | None = None, bias_shift: int = 0, shift: int = 0, exact: bool = False
    ) -> Tensor:
        total = x @ np.swapaxes(y, -1, -2)
        return np.ldexp(total if bias is None else total + np.ldexp(bias[..., None, :], bias_shift), -shift)

    def fused(self, x: Tensor, y: Tensor, z: Tensor, shift: int | None = None) -> Tensor:
        return np.ldexp(x * y, -(self.precision.f if shift is None else shift)) + z

    def mix(self, coefficients: tuple[Any, ...], *tensors: Tensor, shift: int = 0, exact: bool = False) -> Tensor:
        return np.ldexp(np.asarray(sum(c * x for c, x in zip(coefficients, tensors, strict=True))), -shift)

    def total(self, x: Tensor, plus: int = 0) -> Tensor:
        return x.sum(-1)

    def square_sum(self, x: Tensor, plus: int = 1, shift: int = 0, exact: bool = True) -> Tensor:
        return np.ldexp((x * x).sum(-1), -shift)

    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        size = x.shape[-1]
        return ((size * x - total[..., None]) ** 2).sum(-1)

    def ceiling(self, x: Tensor, shift: int) -> Tensor:
        return np.ldexp(x.max(-1), -shift)

    def at_least_one(self, x: Tensor) -> Tensor:
        return np.maximum(x, TINY)

    def apply(self, x: Tensor, function: Any) -> Tensor:
        return function(x)

    def inverse(self, x: Tensor, function: Any, bits: int, root: int) -> tuple[Tensor, Tensor]:
        x = np.maximum(x, TINY)
        exponent = np.floor((np.frexp(x)[1] - 1) / root)
        return function(np.ldexp(x, (bits - root * exponent).astype(np.int64))), np.exp2(exponent)

    def rescale(self, x: Tensor, factor: Tensor, power: Tensor, shift: int) -> Tensor:
        return np.ldexp(x * factor / power, -shift)

    def lookup(self, index: Tensor, table: np.ndarray) -> Tensor:
        return np.asarray(table, dtype=np.float64)[np.minimum(index, len(table) - 1)]
