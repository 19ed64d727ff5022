"""The model on int64 arrays: the reference that a circuit is compared with, bit for bit. Knows nothing of gates.

Nothing can overflow unnoticed: before an operation its largest possible result is bounded from the largest operands
at hand, with Python's integers, and what could leave int64 raises an InputError.
"""

import numpy as np

from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.lower.precision import Precision
from flowgression.errors import InputError

LIMIT = 1 << 63
EXACT_FLOAT = 1 << 53
"""Sums of integers below this are exact in float64, in any order, whose matrix products are much faster."""
TABULATED = 1 << 16
"""Functions of fewer arguments are tabulated once."""


def largest(x: np.ndarray) -> int:
    """max |x| as a Python integer."""
    return max(int(x.max(initial=0)), -int(x.min(initial=0)))


def check_range(bound: int) -> None:
    """Raise InputError unless numbers up to `bound` fit into int64."""
    if bound >= LIMIT:
        raise InputError(
            f"an intermediate of {bound.bit_length()} bits could overflow the 64 bits of the integer interpreter: "
            "use fewer bits."
        )


class IntegerOps(Ops):
    """Tensors are int64 arrays; a leading sample dimension may run along as one more broadcast dimension.

    Also keeps the constants in the order of their use, and counts the saturating results and those that hit the limit.
    """

    def __init__(self, precision: Precision):
        super().__init__(precision)
        self.constants: list[np.ndarray] = []
        self.results = self.saturated = 0

    @property
    def saturation(self) -> float:
        """Share of p-bit results that were clamped."""
        return self.saturated / max(self.results, 1)

    def _narrow(self, x: np.ndarray, shift: int, exact: bool = False) -> np.ndarray:
        shifted = (x + (1 << shift >> 1)) >> shift
        if exact:
            return shifted
        clipped = shifted.clip(self.precision.low, self.precision.high)
        self.results += clipped.size
        self.saturated += int((clipped != shifted).sum())
        return clipped

    def constant(self, integers: np.ndarray) -> Tensor:
        integers = np.asarray(integers, dtype=np.int64)
        self.constants.append(integers)
        return integers

    def matmul(
        self, x: Tensor, y: Tensor, bias: Tensor | None = None, bias_shift: int = 0, shift: int = 0, exact: bool = False
    ) -> Tensor:
        bound = x.shape[-1] * largest(x) * largest(y)
        check_range(bound + (0 if bias is None else largest(bias) << bias_shift) + (1 << shift >> 1))
        y = np.swapaxes(y, -1, -2)
        if bound < EXACT_FLOAT and x.shape[-1] > 1:
            total = (x.astype(np.float64) @ y.astype(np.float64)).astype(np.int64)
        else:
            total = x @ y
        if bias is not None:
            total = total + (bias[..., None, :] << bias_shift)
        return self._narrow(total, shift, exact)

    def fused(self, x: Tensor, y: Tensor, z: Tensor, shift: int | None = None) -> Tensor:
        shift = self.precision.f if shift is None else shift
        check_range(largest(x) * largest(y) + (largest(z) << shift) + (1 << shift >> 1))
        return self._narrow(x * y + (z << shift), shift)

    def mix(self, coefficients: tuple[int, ...], *tensors: Tensor, shift: int = 0, exact: bool = False) -> Tensor:
        parts = list(zip(coefficients, tensors, strict=True))
        check_range(sum(abs(c) * largest(x) for c, x in parts) + (1 << shift >> 1))
        return self._narrow(np.asarray(sum(c * x for c, x in parts)), shift, exact)

    def total(self, x: Tensor, plus: int = 0) -> Tensor:
        check_range(x.shape[-1] * largest(x) + abs(plus))
        return x.sum(-1) + plus

    def square_sum(self, x: Tensor, plus: int = 1, shift: int = 0, exact: bool = True) -> Tensor:
        check_range(x.shape[-1] * largest(x) ** 2 + abs(plus) + (1 << shift >> 1))
        return self._narrow((x * x).sum(-1) + plus, shift, exact)

    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        size = x.shape[-1]
        check_range(size**3 * largest(x) ** 2 + size * largest(total) ** 2 + 1)
        return size * size * (x * x).sum(-1) - size * total * total + 1

    def ceiling(self, x: Tensor, shift: int) -> Tensor:
        return (x >> shift).max(-1) + 1

    def at_least_one(self, x: Tensor) -> Tensor:
        return np.maximum(x, 1)

    def apply(self, x: Tensor, function: Function) -> Tensor:
        if function.table is not None or function.hi - function.lo < TABULATED:
            return function.values[x - function.lo]
        return function.evaluate(x)

    def inverse(self, x: Tensor, function: Function, bits: int, root: int) -> tuple[Tensor, Tensor]:
        check_range(2 * largest(x))
        thresholds = np.int64(1) << np.arange(root, 62, root)
        exponent = np.searchsorted(thresholds, x, side="right")
        shift = bits - root * exponent
        mantissa = (x << shift.clip(min=0)) >> (-shift).clip(min=0)
        return self.apply(mantissa, function), np.left_shift(1, exponent)

    def rescale(self, x: Tensor, factor: Tensor, power: Tensor, shift: int) -> Tensor:
        """x = high 2^k + low with k below the shift, so that no product has more digits than needed."""
        check_range(largest(power) << shift)
        half = power << (shift - 1)
        k = min(shift - 1, 31)
        high, low = x >> k, x & ((1 << k) - 1)
        check_range((largest(high) + 1) * largest(factor) + (largest(half) >> k))
        check_range(largest(factor) << k)
        total = high * factor + (low * factor >> k) + (half >> k)
        return self._narrow(np.floor_divide(total, half >> k << 1), 0)

    def lookup(self, index: Tensor, table: np.ndarray) -> Tensor:
        return np.moveaxis(self.constant(np.moveaxis(table, 0, -1)), -1, 0)[np.minimum(index, len(table) - 1)]
