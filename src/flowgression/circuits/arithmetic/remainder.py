"""Chinese remaindering: polynomials of one number at any width (the `crt` back end) and iterated products.

Letters: k primes q with product M, W bits of the result. The remainders of a result X determine it:
X = sum_q (M/q) h_q - rank M with h_q = X (M/q)^-1 mod q and rank = floor(sum_q h_q / q). Every h_q is a function of
one small integer, so telescoping gives its bits; the rank is read from the fractions h_q / q, rounded down to t
bits, which is exact because X is kept between M/4 and 3M/4 (Beame, Cook and Hoover 1986; Hesse, Allender and
Barrington 2002). Depth after the integers' own: bank 1, bits and rank 1, iterated addition 7.

Size: k = O(W / log W) primes, the largest O(W), have a product beyond 2^(W+2). A residue that is a function of an
integer in a span of s values takes s gates of a bank and log2 q; the rank k - 1; the last sum A(k (log2 q + 1) + 1, W).
"""

from collections.abc import Callable, Sequence
from functools import cache, partial
from typing import NamedTuple

from flowgression.circuits.arithmetic.addition import add_terms
from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.arithmetic.number import Number, shift_right
from flowgression.circuits.builder import Builder, Term, telescope
from flowgression.errors import InputError

FUNCTION_DEPTH = 9
"""Nominal depth of `apply_crt`."""
PRODUCT_DEPTH = 10
"""Nominal depth of `iterated_product`."""


class Residue(NamedTuple):
    """The result mod q as a function of the integer sum(terms), which lies in span."""

    prime: int
    terms: list[Term]
    span: tuple[int, int]
    residue: Callable[[int], int]


@cache
def primes_beyond(bound: int) -> tuple[int, ...]:
    """The first odd primes whose product exceeds `bound`."""
    found: list[int] = []
    product, candidate = 1, 3
    while product <= bound:
        if all(candidate % q for q in found if q * q <= candidate):
            found.append(candidate)
            product *= candidate
        candidate += 2
    return tuple(found)


def combine(builder: Builder, residues: Sequence[Residue], lo: int, hi: int) -> Number:
    """The number in lo..hi with the given residues. Depth 9; the primes' product must exceed 4 (hi - lo + 1).

    Gates: sum over primes of (span + log2 q), k - 1 for the rank, and A(k (log2 q + 1) + 1, W).
    """
    modulus = 1
    for part in residues:
        modulus *= part.prime
    if modulus <= 4 * (hi - lo + 1):
        raise RuntimeError("too few primes for the range")
    pad = modulus // 4
    t = (4 * len(residues)).bit_length() + 1
    terms: list[Term] = []
    fractions: list[Term] = []
    for q, inputs, span, residue in residues:
        inverse = pow(modulus // q, -1, q)

        def h(v: int, q: int = q, inverse: int = inverse, residue: Callable[[int], int] = residue) -> int:
            return (residue(v) - lo + pad) * inverse % q

        digits = q.bit_length()
        functions = [partial(_digit, h, j) for j in range(digits)]
        rows = telescope(builder, inputs, [*functions, partial(_fraction, h, q, t)], span)
        bits = [builder.bank_of(row, (1,))[0] for row in rows[:-1]]
        terms += [((modulus // q) << j, bit) for j, bit in enumerate(bits)]
        fractions.append(rows[-1].as_term())
    rank = builder.bank(fractions, [r << t for r in range(1, len(residues))])
    terms += [(-modulus, bit) for bit in rank]
    return add_terms(builder, terms, lo - pad, lo, hi)


def _digit(h: Callable[[int], int], j: int, v: int) -> int:
    return h(v) >> j & 1


def _fraction(h: Callable[[int], int], q: int, t: int, v: int) -> int:
    return (h(v) << t) // q


def _cyclic(table: Sequence[int], v: int) -> int:
    return table[v % len(table)]


def _remainder_terms(x: Number, q: int) -> tuple[list[Term], tuple[int, int]]:
    """An integer that equals x mod q, up to a multiple of q, with small weights; and its range."""
    terms = [((c + q // 2) % q - q // 2, bit) for c, bit in x.terms()]
    return terms, (sum(c for c, _ in terms if c < 0), sum(c for c, _ in terms if c > 0))


def apply_crt(builder: Builder, function: Function, x: Number) -> Number:
    """function(x), bit for bit what `apply_table` gives, with size polynomial in the width p of x. Depth 9.

    Spans are at most p q / 2, since every power of two enters as its least remainder: sum over primes of
    (p q / 2 + log2 q), k, and A(k (log2 q + 1) + 1, W) gates, W the bits of the polynomial's value: O(p W^2).
    """
    if function.table is not None:
        raise InputError(
            f"{function.name} is defined by a table, as no polynomial follows it over its range: use backend 'table'."
        )
    half = 1 << function.shift >> 1
    lo, hi = function.low << function.shift, ((function.high + 1) << function.shift) - 1
    residues = []
    for q in primes_beyond(4 * (hi - lo + 1)):
        terms, span = _remainder_terms(x, q)
        table = [(function.polynomial(v) + half) % q for v in range(q)]
        residues.append(Residue(q, terms, span, partial(_cyclic, table)))
    return shift_right(combine(builder, residues, lo, hi), function.shift)


def iterated_product(builder: Builder, numbers: Sequence[Number]) -> Number:
    """The exact product of m numbers of p bits. Depth 10 for every m.

    For every prime, each factor's discrete logarithm (a bank on the factor mod q), their sum, and the result mod q
    from it; the logarithm of 0 is taken so large that any sum holding it is recognised.
    Gates: sum over primes of (m p q / 2 + m q + log2 q), k, and A(k (log2 q + 1) + 1, W): polynomial in m p = W.
    """
    lo = hi = 1
    for x in numbers:
        ends = [a * b for a in (lo, hi) for b in (x.lo, x.hi)]
        lo, hi = min(ends), max(ends)
    residues = [_product_residue(builder, numbers, q) for q in primes_beyond(4 * (hi - lo + 1))]
    return combine(builder, residues, lo, hi)


def _product_residue(builder: Builder, numbers: Sequence[Number], q: int) -> Residue:
    powers, logarithms = _discrete_logarithms(q)
    zero = len(numbers) * (q - 1)
    terms: list[Term] = []
    for x in numbers:
        inputs, span = _remainder_terms(x, q)
        row = telescope(builder, inputs, [lambda v: logarithms[v % q] if v % q else zero], span)[0]
        terms.append(row.as_term())
    return Residue(q, terms, (0, len(numbers) * zero), lambda v: 0 if v >= zero else powers[v % (q - 1)])


@cache
def _discrete_logarithms(q: int) -> tuple[list[int], dict[int, int]]:
    """Powers of the least generator of the group mod q, and their inverse table."""
    for generator in range(1, q):
        powers = [1]
        while len(powers) < q - 1 and powers[-1] * generator % q != 1:
            powers.append(powers[-1] * generator % q)
        if len(powers) == q - 1:
            return powers, {value: k for k, value in enumerate(powers)}
    raise RuntimeError(f"{q} is not prime")
