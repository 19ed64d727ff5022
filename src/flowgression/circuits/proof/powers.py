"""Why it is right to find a power of two, to shift by one and to choose by one. Rules of cells.py."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from flowgression.circuits.proof.cell import Cell, as_number, with_bits
from flowgression.circuits.proof.diagrams import FALSE, TRUE, Diagrams
from flowgression.circuits.proof.meaning import clamp
from flowgression.circuits.proof.narrowing import prove_narrow
from flowgression.circuits.proof.netlist import (
    Bit,
    Net,
    Number,
    Value,
    bit_of,
    high_of,
    holds,
    low_of,
    magnitude,
    variables_of,
)
from flowgression.circuits.proof.schema import need
from flowgression.circuits.proof.sums import Exact, exact_number, prove_sum
from flowgression.circuits.proof.tables import every_case, prove_function

# ---- most significant bit, mantissa, and the shift by it ----


def inverse(cell: Cell, x: Value, *, function: Mapping[str, Any], bits: int, root: int) -> int:
    """By diagrams, exponent by exponent: which selector is one, and the mantissa's bits; then the function on every
    mantissa.
    """
    number = as_number(x)
    result, power = cell.results[0], with_bits(cell.results[1])
    selectors = power.bits
    need(number.lo >= 1 and number.hi < min(1 << root * len(selectors), 1 << 61), "an argument without a position")
    need(power.lo == 0 and power.holds(0, 1 << len(selectors) - 1), "a power's interval")
    _prove_exponents(cell.net, number, selectors, cell.mantissa, bits, root)
    values, known = every_case(Number(1 << bits, (1 << bits + root) - 1, tuple(cell.mantissa)))
    largest = prove_function(cell.net, function, values, known, result)
    return max(largest, number.hi, 1 << bits + root)


def _prove_exponents(
    net: Net, x: Number, selectors: Sequence[Bit], mantissa: Sequence[Bit], bits: int, root: int
) -> None:
    """Where 2^(root e) <= x < 2^(root (e + 1)): selector e alone is one, and mantissa = floor(x 2^(bits - root e))."""
    diagrams = Diagrams()
    known = variables_of(reversed(x.bits), diagrams)
    x_bits, legal = net.number_diagrams(diagrams, x, known)
    value = list(zip(x.weights, x_bits, strict=True))
    found = [net.bit_diagram(diagrams, bit, known, legal) for bit in (*selectors, *mantissa)]
    for e in range(len(selectors)):
        beyond = diagrams.negation(diagrams.at_least(value, 1 << root * (e + 1)))
        here = diagrams.all_of(legal, diagrams.at_least(value, 1 << root * e), beyond)
        wanted = [TRUE if k == e else FALSE for k in range(len(selectors))]
        for j in range(bits + root):
            place = j - bits + root * e
            wanted.append(x_bits[place] if 0 <= place < len(x_bits) else FALSE)
        for f, g in zip(found, wanted, strict=True):
            need(diagrams.equal_where(here, f, g), "an exponent or a mantissa is wrong")


def rescale(cell: Cell, x: Value, factor: Value, power: Value, *, shift: int, width: Any) -> int:
    """The sum is exact; its shift is proved once for each node of the selectors, all others being zero."""
    product = Exact()
    product.add_product(x, factor)
    lo, hi = product.lo, product.hi
    product.add(power, 1 << (shift - 1))
    cases = _selected(with_bits(power))
    if isinstance(cell.result, int):
        adds = [(shift + l, 1 << (shift - 1 + l)) for l, _ in cases]
        found = {clamp(end + add >> whole, width) for whole, add in adds for end in (lo, hi)}
        need(found == {cell.result}, "a constant result is wrong")
        return _rescale_bound(x, factor, power, shift)
    claim = cell.claimed_sum
    prove_sum(cell.net, claim, product.polynomial, cell.argument_bits)
    whole = exact_number(claim, product.lo, product.hi)
    for l, fixed in cases:
        add = 1 << (shift - 1 + l)
        low = lo + add if whole.lo >= 0 else min(lo + add, -1)  # a wider interval keeps the sign's weight
        prove_narrow(cell.net, Number(low, hi + add, claim.bits), shift + l, width, cell.result, fixed)
    return _rescale_bound(x, factor, power, shift)


def _rescale_bound(x: Value, factor: Value, power: Value, shift: int) -> int:
    k = min(shift - 1, 31)  # the integer interpreter multiplies the low k digits of x apart from the others
    highest = ((magnitude(x) >> k) + 2) * magnitude(factor) + (high_of(power) << shift - 1 - k)
    return max(highest, magnitude(factor) << k, high_of(power) << shift)


def _selected(power: Number) -> list[tuple[int, dict[int, int]]]:
    """Every case (position of the one bit, values of all the selectors' nodes) of a number that is one-hot."""
    nodes = [n for bit in power.bits for n in bit.nodes]
    plain = all(bit.const == 0 and set(bit.weights) <= {1} for bit in power.bits)
    need(power.lo == 0 and power.holds(0, 1 << len(power.bits) - 1), "a power's interval")
    if not plain or len(set(nodes)) < len(nodes):  # few positions: one selector may be the negation of another
        cases = _node_cases(power.bits)
        return [(l, {n: int(values[l]) for n, values in cases.items()}) for l in range(len(power.bits))]
    return [(l, {n: int(n == one) for n in nodes}) for l, bit in enumerate(power.bits) for one in bit.nodes]


# ---- choice of an entry ----


def select(cell: Cell, power: Value, entries: list[Value]) -> int:
    """Each bit is a gate on selectors and on ANDs of one selector and one node: look at it selector by selector."""
    result, selectors = cell.result, with_bits(power).bits
    need(len(selectors) == len(entries), "an entry for each selector")
    need(holds(result, min(map(low_of, entries)), max(map(high_of, entries))), "a result may leave its interval")
    if isinstance(result, Number):
        cases = _node_cases(selectors)
        for j, bit in enumerate(result.bits):
            _prove_chosen(cell.net, bit, [bit_of(entry, j) for entry in entries], cases)
    return max(map(magnitude, entries))


def _node_cases(selectors: Sequence[Bit]) -> dict[int, np.ndarray]:
    """Values of the selectors' nodes in every case "selector k alone is one"; they must follow one from another."""
    cases: list[dict[int, int]] = []
    for k in range(len(selectors)):
        known: dict[int, int] = {}
        queue = list(enumerate(selectors))
        while queue:
            waiting = []
            for i, bit in queue:
                terms = list(zip(bit.nodes, bit.weights, strict=True))
                free = [(n, w) for n, w in terms if n not in known]
                rest = int(i == k) - bit.const - sum(w * known[n] for n, w in terms if n in known)
                if len(free) > 1:
                    waiting.append((i, bit))
                elif free:
                    need(rest in (0, free[0][1]), "selectors that cannot be one-hot")
                    known[free[0][0]] = rest // free[0][1]
                else:
                    need(rest == 0, "selectors that cannot be one-hot")
            need(len(waiting) < len(queue), "a selector's nodes do not follow from its value")
            queue = waiting
        cases.append(known)
    return {n: np.array([case[n] for case in cases], dtype=np.int64) for n in cases[0]}


def _prove_chosen(net: Net, bit: Bit, choices: Sequence[Bit], cases: Mapping[int, np.ndarray]) -> None:
    """In every case l the bit is choices[l], a constant or a node."""
    row, theta = dict(zip(bit.nodes, bit.weights, strict=True)), 1 - bit.const
    if (bit.const, bit.weights) == (0, (1,)) and bit.nodes[0] >= net.num_inputs:
        row, theta = dict(net.gate(bit.nodes[0])[0]), net.gate(bit.nodes[0])[1]
    else:
        need(bit.plainly_a_bit, "a chosen bit is not plain")
    base = np.zeros(len(choices), dtype=np.int64)
    gated: dict[int, int] = {}
    for node, weight in row.items():
        if node in cases:
            base += weight * cases[node]
            continue
        need(weight == 1, "a chosen bit is no sum of ANDs")
        case, entry = _gated(net, node, cases, len(choices))
        need(case not in gated, "two ANDs of one selector")
        gated[case] = entry
    for l, choice in enumerate(choices):
        if l in gated:
            right = choice == Bit(0, (gated[l],), (1,)) and base[l] < theta <= base[l] + 1
        else:
            right = not choice.nodes and choice.const == (base[l] >= theta)
        need(bool(right), "a wrong entry is chosen")


def _gated(net: Net, node: int, cases: Mapping[int, np.ndarray], count: int) -> tuple[int, int]:
    """(case, entry): the node is zero in all other cases, and there it is the entry's node."""
    row, theta = net.gate(node)
    entries = [n for n in row if n not in cases]
    need(len(entries) == 1, "a chosen bit is no AND of a selector and a node")
    sum_ = sum((w * cases[n] for n, w in row.items() if n in cases), np.zeros(count, dtype=np.int64))
    when_zero, when_one = sum_ >= theta, sum_ + row[entries[0]] >= theta
    need(not when_zero.any() and when_one.sum() == 1, "a chosen bit is no AND of a selector and a node")
    return int(when_one.argmax()), entries[0]
