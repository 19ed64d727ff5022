"""Why each cell is right: one rule for each operation, with the arguments and parameters of its formula in meaning.py.

A rule proves, for all inputs of the cell for which every argument bit is 0 or 1, every argument lies in its interval
and the premises below hold: each result's bits are 0 or 1, its value is the formula's, and it lies in the result's
interval. It returns a bound on the absolute value of every integer that the formula passes through.

Premises, which the wiring must show (checker.py): exactly one bit of `power` (rescale, select) is one; the `total` of
centred_square_sum is that of its xs.
"""

from collections.abc import Callable

from flowgression.circuits.proof.cell import Cell, as_number
from flowgression.circuits.proof.diagrams import FALSE, TRUE, Diagrams
from flowgression.circuits.proof.narrowing import centred_square_sum, dot, fused, mix, square_sum, total
from flowgression.circuits.proof.netlist import Number, Value, high_of, holds, low_of, magnitude, variables_of
from flowgression.circuits.proof.powers import inverse, rescale, select
from flowgression.circuits.proof.schema import need
from flowgression.circuits.proof.sums import INTEGER_LIMIT
from flowgression.circuits.proof.tables import apply, one_hot


def prove_cell(cell: Cell) -> int:
    """Raise Rejected unless the cell is right; returns the bound on its integers."""
    need(cell.operation in RULES, f"there is no rule for the operation {cell.operation!r}")
    bound = RULES[cell.operation](cell, *cell.arguments, **cell.parameters)
    need(bound < INTEGER_LIMIT, "an intermediate result may exceed 63 bits")
    return bound


# ---- the larger of numbers ----


def at_least_one(cell: Cell, x: Value) -> int:
    result = cell.result
    need(holds(result, max(low_of(x), 1), max(high_of(x), 1)), "a result may leave its interval")
    if isinstance(result, int):
        return max(magnitude(x), 1)
    number, diagrams = as_number(x), Diagrams()
    known = variables_of(reversed(number.bits), diagrams)
    bits, legal = cell.net.number_diagrams(diagrams, number, known)
    positive = diagrams.at_least(zip(number.weights, bits, strict=True), 1)
    for i, found in enumerate(result.bits):
        kept = bits[i] if i < len(bits) else bits[-1] if number.lo < 0 else FALSE
        wanted = diagrams.choose(positive, kept, TRUE if i == 0 else FALSE)
        same = diagrams.equal_where(legal, wanted, cell.net.bit_diagram(diagrams, found, known, legal))
        need(same, "a maximum is wrong")
    return max(magnitude(x), 1)


def ceiling(cell: Cell, xs: list[Value], *, shift: int) -> int:
    """1 + v for the highest v that some x reaches: x >= v 2^shift."""
    result = cell.result
    lo, hi = (max(end(x) >> shift for x in xs) for end in (low_of, high_of))
    need(holds(result, lo + 1, hi + 1), "a result may leave its interval")
    diagrams, legal, values = Diagrams(), TRUE, []
    known = variables_of((bit for x in xs if isinstance(x, Number) for bit in reversed(x.bits)), diagrams)
    for x in xs:
        if isinstance(x, Number):
            bits, proper = cell.net.number_diagrams(diagrams, x, known)
            legal = diagrams.all_of(legal, proper)
            values.append((list(zip(x.weights, bits, strict=True)), 0))
        else:
            values.append(([], x))
    need(hi - lo < 1 << 16, "a maximum of more values than are enumerated")
    reached = []
    for v in range(lo + 1, hi + 1):
        some = [(1, diagrams.at_least(terms, (v << shift) - const)) for terms, const in values]
        reached.append((v, diagrams.at_least(some, 1)))
    for j, found in enumerate(() if isinstance(result, int) else result.bits):
        wanted = lo + 1 >> j & 1
        for v, above in reached:
            wanted = diagrams.choose(above, v + 1 >> j & 1, wanted)
        same = diagrams.equal_where(legal, wanted, cell.net.bit_diagram(diagrams, found, known, legal))
        need(same, "a maximum is wrong")
    return max(abs(lo), abs(hi)) + 1


RULES: dict[str, Callable[..., int]] = {
    each.__name__: each
    for each in (
        dot, fused, mix, total, square_sum, centred_square_sum, ceiling, at_least_one, apply, inverse, rescale,
        one_hot, select
    )
}  # fmt: skip
