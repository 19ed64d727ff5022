"""Exact division: normalise, look the reciprocal up, multiply, correct by one.

Letters: a numerator of U bits, b divisor of V bits, F = U + shift + 1 fraction bits of the reciprocal, Q <= U + shift
bits of the quotient. Depths: MSB 1, normalising shift 2, reciprocal 2 (`table`) or 9 (`crt`), product 8, shift
back 2, test 8, choice 2: 25 in all with the table. Gates: V to normalise, V (V + 1), the reciprocal's 2^(V-1) + F
(`table`), U F + A(min(U, F) + 1, U + F) for the product, Q (V + 1) to shift back, Q V + A(min(Q, V) + 4, Q + V + 1) to
test, A(3, Q + 1) + 3 (Q + 1) to choose. Polynomial with `crt`, or for V = O(log n).
"""

from collections.abc import Callable

from flowgression.circuits.arithmetic.addition import weighted_sum
from flowgression.circuits.arithmetic.functions import Function, apply_table, fit
from flowgression.circuits.arithmetic.number import Number, constant, width_of
from flowgression.circuits.arithmetic.product import dot, multiply
from flowgression.circuits.arithmetic.select import choose, most_significant_bit, shift_right_by
from flowgression.circuits.builder import ZERO, Bit, Builder

Apply = Callable[[Builder, Function, Number], Number]
DEPTH = 25
"""Nominal depth of `divide` with the table back end."""


def normalise(builder: Builder, x: Number, bits: int) -> tuple[Number, list[Bit]]:
    """floor(x 2^(bits - l)) with l the position of the MSB of x >= 1, and l one-hot. Depth 3,
    V + (bits + 1) (V + 1) gates.

    The result lies in 2^bits .. 2^(bits+1) - 1.
    """
    top = most_significant_bit(builder, x)
    mantissa = shift_right_by(builder, x, top, -bits, 1 << bits, (2 << bits) - 1)
    return mantissa, top


def reciprocal(bits: int, fraction: int) -> Function:
    """2^fraction / u for u = m 2^-bits in [1, 2), from below: within (-1.6, 0] last places."""
    return fit("reciprocal-", lambda u: 1 / u - 0.8 * 2.0**-fraction, 1 << bits, (2 << bits) - 1, bits, fraction, 0.25)


def divide(builder: Builder, a: Number, b: Number, shift: int = 0, apply: Apply = apply_table) -> Number:
    """floor(a 2^shift / b) for a >= 0 and b >= 1 (for b = 0 the value is without meaning). Depth 25 with the table;
    gates as at the top of the file.

    The estimate from the reciprocal is right or one too small; the sign of the remainder decides.
    """
    bits = b.width - 1
    mantissa, top = normalise(builder, b, bits)
    fraction = a.width + shift + 1
    inverse = apply(builder, reciprocal(bits, fraction), mantissa)
    top_quotient = (a.hi << shift) // max(b.lo, 1)
    estimate = shift_right_by(builder, multiply(builder, a, inverse), top, fraction - shift, 0, top_quotient)
    # rest = (estimate + 1) b - a 2^shift - 1 is negative exactly if one more divisor fits.
    rest = dot(builder, [estimate], [b], [(1, b), (-(1 << shift), a), (-1, constant(1))])
    one_more = weighted_sum(builder, [(1, estimate)], 1)
    fits = rest.bit(rest.width) if rest.signed else ZERO
    chosen = choose(builder, fits, one_more, estimate)
    return Number(tuple(chosen.bit(j) for j in range(width_of(0, top_quotient))), 0, top_quotient)
