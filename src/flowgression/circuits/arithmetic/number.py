"""Two's-complement integers as bits, with the interval they are known to lie in.

The interval decides the width, so nothing ever wraps; it is what the builder knows, not what the gates check.
"""

from typing import NamedTuple

import numpy as np

from flowgression.circuits.builder import ONE, ZERO, Bit, Builder, Term
from flowgression.circuits.ir import Port


class Number(NamedTuple("_Number", [("bits", tuple[Bit, ...]), ("lo", int), ("hi", int)])):
    """bits low first; the last one weighs -2^(width-1) if lo < 0. Always lo <= value <= hi."""

    __slots__ = ()

    @property
    def width(self) -> int:
        return len(self.bits)

    @property
    def signed(self) -> bool:
        return self.lo < 0

    @property
    def is_constant(self) -> bool:
        return self.lo == self.hi

    def with_bits(self, bits: tuple[Bit, ...]) -> "Number":
        return Number(bits, self.lo, self.hi)

    def terms(self, coefficient: int = 1) -> list[Term]:
        """coefficient * value as weighted bits."""
        top = self.width - 1
        return [
            (-(coefficient << j) if self.signed and j == top else coefficient << j, bit)
            for j, bit in enumerate(self.bits)
        ]

    def bit(self, j: int) -> Bit:
        """Bit j of the value, for any j: sign (or zero) beyond the width."""
        if j < self.width:
            return self.bits[j]
        return self.bits[-1] if self.signed else ZERO


def width_of(lo: int, hi: int) -> int:
    """Least width that holds lo..hi; two's complement if lo < 0."""
    return max(hi.bit_length(), (-lo - 1).bit_length()) + 1 if lo < 0 else hi.bit_length()


def constant(value: int) -> Number:
    bits = tuple(ONE if value >> j & 1 else ZERO for j in range(width_of(value, value)))
    return Number(bits, value, value)


def input_number(builder: Builder, width: int, signed: bool = True, level: int = 0) -> Number:
    """A fresh input of the circuit."""
    lo = -(1 << (width - 1)) if signed else 0
    return Number(tuple(builder.inputs(width, level)), lo, lo + (1 << width) - 1)


def input_tensor(
    builder: Builder, name: str, shape: tuple[int, ...], width: int, signed: bool = True
) -> tuple[np.ndarray, Port]:
    """Fresh inputs as an object array of Numbers [*shape], and the port that encodes integers into them."""
    flat = np.empty(int(np.prod(shape, dtype=np.int64)), dtype=object)
    for k in range(len(flat)):
        flat[k] = input_number(builder, width, signed)
    return flat.reshape(shape), Port(name, tuple(shape), width, signed)


def output_port(name: str, numbers: np.ndarray) -> tuple[list[Bit], Port]:
    """The bits of an object array of Numbers, all widened to the widest of them, and the port that decodes them."""
    flat = list(numbers.reshape(-1))
    signed = any(number.signed for number in flat)
    width = max(number.width + (signed and not number.signed) for number in flat)
    bits = [number.bit(j) for number in flat for j in range(width)]
    return bits, Port(name, tuple(numbers.shape), width, signed)


def shift_right(x: Number, k: int) -> Number:
    """floor(x / 2^k) for k >= 0, x 2^-k for k < 0. Costs nothing."""
    if k <= 0:
        return Number((ZERO,) * -k + x.bits, x.lo << -k, x.hi << -k)
    lo, hi = x.lo >> k, x.hi >> k
    if lo == hi:  # a number without a choice is a constant, and has no nodes
        return constant(lo)
    bits = tuple(x.bit(k + j) for j in range(width_of(lo, hi)))
    return Number(bits, lo, hi)
