"""The model on int64 arrays: the reference that a circuit is compared with, bit for bit. Knows nothing of gates."""

import numpy as np

from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.lower.precision import Precision
from flowgression.errors import InputError


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
        total = x @ np.swapaxes(y, -1, -2)
        if bias is not None:
            total = total + (bias[..., None, :] << bias_shift)
        return self._narrow(total, shift, exact)

    def fused(self, x: Tensor, y: Tensor, z: Tensor, shift: int | None = None) -> Tensor:
        shift = self.precision.f if shift is None else shift
        return self._narrow(x * y + (z << shift), shift)

    def mix(self, coefficients: tuple[int, ...], *tensors: Tensor, shift: int = 0, exact: bool = False) -> Tensor:
        return self._narrow(np.asarray(sum(c * x for c, x in zip(coefficients, tensors, strict=True))), shift, exact)

    def total(self, x: Tensor, plus: int = 0) -> Tensor:
        return x.sum(-1) + plus

    def square_sum(self, x: Tensor, plus: int = 1, shift: int = 0, exact: bool = True) -> Tensor:
        if np.abs(x).max(initial=0) >= 1 << 26:
            raise InputError("squares overflow int64: use fewer bits.")
        return self._narrow((x * x).sum(-1) + plus, shift, exact)

    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        size = x.shape[-1]
        return size * size * (x * x).sum(-1) - size * total * total + 1

    def at_least_one(self, x: Tensor) -> Tensor:
        return np.maximum(x, 1)

    def apply(self, x: Tensor, function: Function) -> Tensor:
        return function.values[x - function.lo]

    def inverse(self, x: Tensor, function: Function, bits: int, root: int) -> tuple[Tensor, Tensor]:
        thresholds = np.int64(1) << np.arange(root, 62, root)
        exponent = np.searchsorted(thresholds, x, side="right")
        shift = bits - root * exponent
        mantissa = (x << shift.clip(min=0)) >> (-shift).clip(min=0)
        return self.apply(mantissa, function), np.left_shift(1, exponent)

    def rescale(self, x: Tensor, factor: Tensor, power: Tensor, shift: int) -> Tensor:
        half = power << (shift - 1)
        return self._narrow(np.floor_divide(x * factor + half, 2 * half), 0)

    def lookup(self, index: Tensor, table: np.ndarray) -> Tensor:
        return np.moveaxis(self.constant(np.moveaxis(table, 0, -1)), -1, 0)[np.minimum(index, len(table) - 1)]
