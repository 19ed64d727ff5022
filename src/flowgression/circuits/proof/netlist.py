"""The parts of a circuit: bits, numbers, and the gates of one cell.

A bit is an affine form const + sum of weight * node over nodes that are 0 or 1; where it is used as a bit, it must be
known or proved to be 0 or 1. A number is bits, low first, with the interval it is declared to lie in; its last bit
weighs -2^(width - 1) if the interval goes below zero. A constant number is a plain integer.
"""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.diagrams import TRUE, Diagrams
from flowgression.circuits.proof.meaning import DOMAIN, LONGEST, WHOLE
from flowgression.circuits.proof.schema import Each, Int, Integers, Record, must, need

Values = dict[int, np.ndarray]
"""Node -> its value, 0 or 1, in every one of several cases."""


class Bit(NamedTuple):
    const: int
    nodes: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()

    @property
    def plainly_a_bit(self) -> bool:
        """Whether it is a constant 0 or 1, a node, or the negation of one."""
        if not self.nodes:
            return self.const in (0, 1)
        return (self.const, self.weights) in ((0, (1,)), (1, (-1,)))


class Number(NamedTuple):
    lo: int
    hi: int
    bits: tuple[Bit, ...]

    @property
    def weights(self) -> list[int]:
        return [-(1 << j) if self.lo < 0 and j == len(self.bits) - 1 else 1 << j for j in range(len(self.bits))]

    def bit(self, j: int) -> Bit:
        """Bit j of the value, for any j: sign or zero beyond the width."""
        return self.bits[j] if j < len(self.bits) else self.bits[-1] if self.lo < 0 else Bit(0)

    def holds(self, lo: int, hi: int) -> bool:
        """Whether every integer of lo..hi lies in its interval and has a code of its width."""
        width = len(self.bits)
        low, high = (-(1 << width - 1), (1 << width - 1) - 1) if self.lo < 0 else (0, (1 << width) - 1)
        return max(low, self.lo) <= lo <= hi <= min(high, self.hi)


Value = Number | int


def low_of(x: Value) -> int:
    return x if isinstance(x, int) else x.lo


def high_of(x: Value) -> int:
    return x if isinstance(x, int) else x.hi


def magnitude(x: Value) -> int:
    return max(abs(low_of(x)), abs(high_of(x)))


def bit_of(x: Value, j: int) -> Bit:
    return Bit(x >> j & 1) if isinstance(x, int) else x.bit(j)


def holds(x: Value, lo: int, hi: int) -> bool:
    return lo == hi == x if isinstance(x, int) else x.holds(lo, hi)


NODE = (1 << 31) - 1
_AFFINE = Integers(-NODE, NODE, 1, 1 << 17)
WIDE = 62
"""Bits of a number that is enumerated, so that int64 holds it."""

MOST_VALUES = 1 << 30
"""Of all a cell's gates in all cases."""


def read_bit(data: Any, where: str = "a bit") -> Bit:
    """The schema of a bit. n: node n; -1 - n: its negation; [const, node, weight, ...]: an affine form."""
    if type(data) is int and -NODE <= data < NODE:
        return Bit(0, (data,), (1,)) if data >= 0 else Bit(1, (-1 - data,), (-1,))
    const, *rest = _AFFINE(data, where)
    bit = Bit(const, tuple(rest[::2]), tuple(rest[1::2]))
    must(len(bit.nodes) == len(bit.weights) == len(set(bit.nodes)), f"{where} has a node twice")
    must(0 not in bit.weights and min(bit.nodes, default=0) >= 0, f"{where} has a node that is none")
    return bit


_NUMBER = Record(lo=Int(-LONGEST, LONGEST), hi=Int(-LONGEST, LONGEST), bits=Each(read_bit, 1, 4096))


def read_value(data: Any, where: str) -> Value:
    """The schema of a number: an integer, or {"lo", "hi", "bits"}."""
    if type(data) is int:
        return WHOLE(data, where)
    found = _NUMBER(data, where)
    must(found["lo"] < found["hi"], f"{where} has an empty interval")
    return Number(found["lo"], found["hi"], tuple(found["bits"]))


def read_argument(data: Any, where: str) -> Any:
    """The schema of a number or a row of them."""
    return [read_value(x, where) for x in data] if type(data) is list else read_value(data, where)


class Net:
    """The gates of one cell. Node k is input k for k < num_inputs, else gate k - num_inputs; gates that share their
    sum share a row, {node: weight}.
    """

    def __init__(self, num_inputs: int, rows: Sequence[Mapping[int, int]], gate_row: Sequence[int], theta: Any):
        self.num_inputs = num_inputs
        self.rows = rows
        self.gate_row = gate_row
        self.theta = theta

    def row_of(self, node: int) -> int:
        need(self.num_inputs <= node < self.num_inputs + len(self.theta), "a gate reads what it must not")
        return self.gate_row[node - self.num_inputs]

    def gate(self, node: int) -> tuple[Mapping[int, int], int]:
        """{node: weight} and theta of a gate."""
        return self.rows[self.row_of(node)], self.theta[node - self.num_inputs]

    # ---- by cases ----

    def extend(self, known: Values, wanted: Iterable[int]) -> None:
        """Add the values of the wanted nodes to `known`, whose nodes must cut them off from all others."""
        needed, stack = set(), [n for n in wanted if n not in known]
        while stack:
            node = stack.pop()
            if node not in needed:
                needed.add(node)
                stack += [n for n in self.gate(node)[0] if n not in known and n not in needed]
        cases = len(next(iter(known.values()), ()))
        need(len(needed) * cases <= MOST_VALUES, "more cases of gates than are enumerated")
        last, total = -1, None
        for node in sorted(needed):  # gates stand in topological order, those of a row together
            if self.row_of(node) != last:
                last, total = self.row_of(node), _weighted(self.rows[self.row_of(node)], known)
            known[node] = total >= self.theta[node - self.num_inputs]

    def decode(self, x: Value, known: Values) -> Any:
        """The number's value in every case, after proof that each of its bits is 0 or 1."""
        if isinstance(x, int):
            return x
        need(len(x.bits) <= WIDE, "a number too wide to be enumerated")
        self.extend(known, (n for bit in x.bits for n in bit.nodes))
        total = np.int64(0)
        for weight, bit in zip(x.weights, x.bits, strict=True):
            total = total + weight * bit_values(bit, known)
        return total

    # ---- by decision diagrams ----

    def diagram(self, diagrams: Diagrams, node: int, known: dict[int, int]) -> int:
        """The node as a function of the known ones, which must cut it off from all others."""
        if node not in known:
            row, theta = self.gate(node)
            known[node] = diagrams.at_least([(w, self.diagram(diagrams, n, known)) for n, w in row.items()], theta)
        return known[node]

    def bit_diagram(self, diagrams: Diagrams, bit: Bit, known: dict[int, int], legal: int = TRUE) -> int:
        """A bit as a function of the known nodes, after proof that it is 0 or 1 wherever `legal` holds."""
        value, is_bit = self._affine(diagrams, bit, known)
        need(diagrams.all_of(legal, is_bit) == legal, "an affine form is not always 0 or 1")
        return value

    def number_diagrams(self, diagrams: Diagrams, x: Number, known: dict[int, int]) -> tuple[list[int], int]:
        """The bits of a number that is known to be one, and where it is: bits are 0 or 1, the interval holds."""
        pairs = [self._affine(diagrams, bit, known) for bit in x.bits]
        value = [(weight, bit) for weight, (bit, _) in zip(x.weights, pairs, strict=True)]
        inside = diagrams.at_least(value, x.lo), diagrams.negation(diagrams.at_least(value, x.hi + 1))
        return [bit for bit, _ in pairs], diagrams.all_of(*inside, *{is_bit for _, is_bit in pairs})

    def _affine(self, diagrams: Diagrams, bit: Bit, known: dict[int, int]) -> tuple[int, int]:
        """[form >= 1] and [0 <= form <= 1]."""
        terms = [(w, self.diagram(diagrams, n, known)) for n, w in zip(bit.nodes, bit.weights, strict=True)]
        not_above = diagrams.negation(diagrams.at_least(terms, 2 - bit.const))
        is_bit = diagrams.all_of(not_above, diagrams.at_least(terms, -bit.const))
        return diagrams.at_least(terms, 1 - bit.const), is_bit


def _weighted(row: Mapping[int, int], known: Values) -> np.ndarray:
    total: Any = np.int64(0)
    for node, weight in row.items():
        total = total + weight * known[node].astype(np.int64)
    return total


def bit_values(bit: Bit, known: Values) -> Any:
    """The bit in every case, after proof that it is 0 or 1."""
    value: Any = np.int64(bit.const)
    for node, weight in zip(bit.nodes, bit.weights, strict=True):
        value = value + weight * known[node].astype(np.int64)
    need(bool(np.all((value == 0) | (value == 1))), "an affine form is not always 0 or 1")
    return value


def every_value(x: Number) -> tuple[np.ndarray, Values]:
    """All integers of the number's interval that its bits can show, and its nodes' values then.

    Its bits must be constants, nodes or negations; where they share nodes, some integers cannot occur.
    """
    need(x.holds(x.lo, x.hi), "an argument's interval exceeds its bits")
    need(x.hi - x.lo < DOMAIN and len(x.bits) <= WIDE, "an argument with more values than are enumerated")
    values = np.arange(x.lo, x.hi + 1)
    possible = np.ones(len(values), dtype=bool)
    known: Values = {}
    for j, bit in enumerate(x.bits):
        need(bit.plainly_a_bit, "an argument's bits are not plain")
        shown = (values >> j & 1).astype(bool)
        if not bit.nodes:
            possible &= shown == bit.const
            continue
        node_value = shown ^ bool(bit.const)
        possible &= known.setdefault(bit.nodes[0], node_value) == node_value
    return values[possible], {node: value[possible] for node, value in known.items()}


def variables_of(numbers: Iterable[Bit], diagrams: Diagrams) -> dict[int, int]:
    """One variable for each node of the bits, in their order."""
    known: dict[int, int] = {}
    for bit in numbers:
        for node in bit.nodes:
            if node not in known:
                known[node] = diagrams.variable(len(known))
    return known
