"""Why a sum is right: its polynomial, then a shift and a clamp. Rules of cells.py."""

from collections.abc import Mapping, Sequence
from typing import Any

from flowgression.circuits.proof.cell import Cell
from flowgression.circuits.proof.diagrams import FALSE, TRUE, Diagrams
from flowgression.circuits.proof.meaning import clamp, half
from flowgression.circuits.proof.netlist import Net, Number, Value, holds, magnitude, variables_of
from flowgression.circuits.proof.schema import need
from flowgression.circuits.proof.sums import Exact, exact_number, prove_sum


def dot(cell: Cell, xs: list[Value], ys: list[Value], *bias: Value, bias_shift: int, shift: int, width: Any) -> int:
    exact = Exact()
    for x, y in zip(xs, ys, strict=True):
        exact.add_product(x, y)
    for b in bias:
        exact.add(b, 1 << bias_shift)
    return _narrowed_sum(cell, exact, shift, width)


def fused(cell: Cell, x: Value, y: Value, z: Value, *, shift: int, width: Any) -> int:
    exact = Exact()
    exact.add_product(x, y)
    exact.add(z, 1 << shift)
    return _narrowed_sum(cell, exact, shift, width)


def mix(cell: Cell, *xs: Value, coefficients: Sequence[int], shift: int, width: Any) -> int:
    exact = Exact()
    for c, x in zip(coefficients, xs, strict=True):
        exact.add(x, c)
    return _narrowed_sum(cell, exact, shift, width)


def total(cell: Cell, xs: list[Value], *, plus: int) -> int:
    exact = Exact()
    for x in xs:
        exact.add(x)
    exact.add(plus)
    return _narrowed_sum(cell, exact, 0, None)


def square_sum(cell: Cell, xs: list[Value], *, plus: int, shift: int, width: Any) -> int:
    exact = Exact()
    for x in xs:
        exact.add_product(x, x)
    exact.add(plus)
    return _narrowed_sum(cell, exact, shift, width)


def centred_square_sum(cell: Cell, xs: list[Value], total: Value) -> int:
    """Where total = sum x, the polynomial is 1 + sum of (D x - total)^2, and so at least 1."""
    exact, size = Exact(), len(xs)
    for x in xs:
        exact.add_product(x, x, size**2)
    exact.add_product(total, total, -size)
    exact.add(1)
    exact.lo, exact.hi = 1, 1 + size**2 * sum(magnitude(x) ** 2 for x in xs)
    return _narrowed_sum(cell, exact, 0, None)


def _narrowed_sum(cell: Cell, exact: Exact, shift: int, width: int | None) -> int:
    exact.add(half(shift))
    if isinstance(cell.result, int):
        ends = clamp(exact.lo >> shift, width), clamp(exact.hi >> shift, width)
        need(ends == (cell.result, cell.result), "a constant result is wrong")
        return exact.bound
    claim = cell.claimed_sum
    prove_sum(cell.net, claim, exact.polynomial, cell.argument_bits)
    prove_narrow(cell.net, exact_number(claim, exact.lo, exact.hi), shift, width, cell.result)
    return exact.bound


def prove_narrow(
    net: Net, x: Number, shift: int, width: int | None, result: Value, fixed: Mapping[int, int] | None = None
) -> None:
    """result = clamp(x >> shift) for every x of its interval, where some other nodes have fixed diagrams."""
    lo, hi = clamp(x.lo >> shift, width), clamp(x.hi >> shift, width)
    need(holds(result, lo, hi), "a result may leave its interval")
    if isinstance(result, int):
        return
    diagrams = Diagrams()
    known = variables_of(reversed(x.bits), diagrams) | dict(fixed or {})
    bits, legal = net.number_diagrams(diagrams, x, known)
    value = list(zip(x.weights, bits, strict=True))
    over, at_least = FALSE, TRUE
    if width is not None:
        over = diagrams.at_least(value, clamp(1 << width, width) + 1 << shift)
        at_least = diagrams.at_least(value, clamp(-1 << width, width) << shift)
    for i, found in enumerate(result.bits):
        kept = bits[shift + i] if shift + i < len(bits) else bits[-1] if x.lo < 0 else FALSE
        limits = [FALSE if width is None else clamp(sign << width, width) >> i & 1 for sign in (1, -1)]
        wanted = diagrams.choose(over, limits[0], diagrams.choose(at_least, kept, limits[1]))
        same = diagrams.equal_where(legal, wanted, net.bit_diagram(diagrams, found, known, legal))
        need(same, "a narrowed bit is wrong")
