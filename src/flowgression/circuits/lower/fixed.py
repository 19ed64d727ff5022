"""Values with formats: an operation's tensor together with its fraction bits, and arithmetic that keeps track of them.

Every result has a name, from which its format follows (`Precision.fraction_of`): the same for all values, or as its
own measured range allows. Under one format for all, each function here is exactly one operation of ops.py.

Letters: x, y, z of fractions fx, fy, fz; f the fraction of the result; real values are integers times 2^-fraction.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from flowgression.circuits.lower.ops import Ops, Tensor


@dataclass(frozen=True, eq=False)
class Fixed:
    """A tensor of integers x that stand for x 2^-fraction. Shapes change as those of NumPy arrays do."""

    data: Tensor
    fraction: int

    @property
    def shape(self) -> tuple[int, ...]:
        return self.data.shape

    def __getitem__(self, index: Any) -> "Fixed":
        return Fixed(self.data[index], self.fraction)

    def map(self, change: Callable[[Tensor], Tensor]) -> "Fixed":
        """change(data), a rearrangement, in the same format."""
        return Fixed(change(self.data), self.fraction)

    def reshape(self, *shape: int) -> "Fixed":
        return self.map(lambda data: data.reshape(shape))

    def swapaxes(self, a: int, b: int) -> "Fixed":
        return self.map(lambda data: np.swapaxes(data, a, b))

    def split(self, parts: int) -> list["Fixed"]:
        """Equal parts of the last dimension."""
        return [Fixed(part, self.fraction) for part in np.split(self.data, parts, axis=-1)]


Value = Fixed | Tensor
"""What layers take: a bare tensor is in the format of the Precision."""


def fixed(ops: Ops, x: Value) -> Fixed:
    return x if isinstance(x, Fixed) else Fixed(x, ops.precision.f)


def concatenate(parts: Sequence[Fixed], axis: int = -1) -> Fixed:
    """Values of one format behind each other, along a negative axis; the other dimensions broadcast (what does not
    depend on the image has no sample dimension).
    """
    if len({part.fraction for part in parts}) != 1:
        raise RuntimeError(f"formats differ: {[part.fraction for part in parts]} fraction bits")

    def others(shape: tuple[int, ...], size: int) -> tuple[int, ...]:
        return (*shape[:axis], size, *shape[len(shape) + axis + 1 :])

    shape = np.broadcast_shapes(*(others(part.shape, 1) for part in parts))
    full = [np.broadcast_to(part.data, others(shape, part.shape[axis])) for part in parts]
    return Fixed(np.concatenate(full, axis=axis), parts[0].fraction)


def constant(ops: Ops, values: np.ndarray) -> Fixed:
    """Real constants in the format of the Precision, or with measured ranges in `own_format`."""
    return own_format(ops, values) if ops.measured else Fixed(ops.parameter(values), ops.precision.f)


def own_format(ops: Ops, values: np.ndarray) -> Fixed:
    """Real constants with as many fraction bits as the largest leaves."""
    fraction = ops.precision.weight_fraction(values)
    return Fixed(ops.parameter(values, fraction), fraction)


def look_up(ops: Ops, index: Tensor, table: np.ndarray) -> Fixed:
    """index [] and a real table [V, ...] -> table[index]."""
    fraction = ops.precision.weight_fraction(table) if ops.measured else ops.precision.f
    return Fixed(ops.lookup(index, ops.quantise(table, fraction)), fraction)


def linear(ops: Ops, x: Value, weight: np.ndarray, bias: np.ndarray | None = None, name: str = "") -> Fixed:
    """x [..., T, in] -> [..., T, out] with real weight [out, in] and bias [out]. Depth 9 (weights wired), 10 (as
    inputs). T out cells dot(in).
    """
    x = fixed(ops, x)
    own = ops.precision.weight_fraction(weight)
    exact = x.fraction + own
    fraction = min(ops.fraction(name), exact)
    w = ops.parameter(weight, own)
    b, bias_shift = None, 0
    if bias is not None:
        bias_fraction = min(ops.precision.weight_fraction(bias), exact) if ops.measured else ops.precision.f
        b, bias_shift = ops.parameter(bias, bias_fraction), exact - bias_fraction
    elif not ops.measured:
        bias_shift = own  # part of the cell's key
    return _named(ops, name, ops.matmul(x.data, w, b, bias_shift=bias_shift, shift=exact - fraction), fraction)


def matmul(ops: Ops, x: Fixed, y: Fixed, name: str) -> Fixed:
    """x [..., M, D], y [..., N, D] -> [..., M, N]. Depth 10."""
    exact = x.fraction + y.fraction
    fraction = min(ops.fraction(name), exact)
    return _named(ops, name, ops.matmul(x.data, y.data, shift=exact - fraction), fraction)


def exact_matmul(ops: Ops, x: Fixed, y: Fixed) -> Fixed:
    """As `matmul`, with all the digits there are. Depth 8."""
    return Fixed(ops.matmul(x.data, y.data, exact=True), x.fraction + y.fraction)


def multiply(ops: Ops, x: Fixed, y: Fixed, name: str, fraction: int | None = None) -> Fixed:
    """x y elementwise, in the format of `name` or of a known range. Depth 10."""
    exact = x.fraction + y.fraction
    fraction = min(ops.fraction(name) if fraction is None else fraction, exact)
    product = ops.matmul(x.data[..., None, None], y.data[..., None, None], shift=exact - fraction)
    return _named(ops, name, product[..., 0, 0], fraction)


def multiply_add(ops: Ops, x: Fixed, y: Fixed, z: Fixed, name: str) -> Fixed:
    """x y + z elementwise, rounded once. Depth 10."""
    exact = x.fraction + y.fraction
    if z.fraction > exact:  # digits that the product does not have
        z = Fixed(ops.mix((1,), z.data, shift=z.fraction - exact), exact)
    fraction = min(ops.fraction(name), exact)
    if fraction == z.fraction:
        return _named(ops, name, ops.fused(x.data, y.data, z.data, shift=exact - fraction), fraction)
    factors = x.data[..., None, None], y.data[..., None, None]
    total = ops.matmul(*factors, z.data[..., None], bias_shift=exact - z.fraction, shift=exact - fraction)
    return _named(ops, name, total[..., 0, 0], fraction)


def combine(
    ops: Ops,
    parts: Sequence[tuple[float, Fixed]],
    name: str,
    digits: int = 0,
    fraction: int | None = None,
) -> Fixed:
    """sum of real constants times values, the constants rounded to `digits` fraction bits. Depth 9."""
    if fraction is None:
        fraction = ops.fraction(name)
    common = max(fraction, *(x.fraction for _, x in parts)) + digits
    coefficients = tuple(ops.coefficient(np.ldexp(c, common - x.fraction).item()) for c, x in parts)
    result = ops.mix(coefficients, *(x.data for _, x in parts), shift=common - fraction)
    return _named(ops, name, result, fraction)


def add(ops: Ops, x: Value, y: Value, name: str = "") -> Fixed:
    """x + y. Depth 9, saturated."""
    return combine(ops, [(1.0, fixed(ops, x)), (1.0, fixed(ops, y))], name)


def activation(ops: Ops, x: Fixed, function: str, name: str, scale: float = 1.0) -> Fixed:
    """scale * function(x) of p-bit numbers. Depth 2 or 9, by the back end."""
    p, fraction = ops.precision, ops.fraction(name)
    found = ops.function(function, p.low, p.high, x.fraction, fraction, scale)
    return _named(ops, name, ops.apply(x.data, found), fraction)


def _named(ops: Ops, name: str, data: Tensor, fraction: int) -> Fixed:
    return Fixed(ops.record(name, data, fraction), fraction)
