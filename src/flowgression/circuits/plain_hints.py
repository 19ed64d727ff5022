"""Why each cell is right, for the checker of proofs/ (docs/proofs.md): which of its rules, and what it must be told.

A form is (constant, {node: weight}), nodes counted from 0; what `proof/` works out for itself, such as the carries of
the last two rows of a sum, is looked up here among the cell's gates.
"""

from collections.abc import Iterable, Sequence
from typing import Any

from flowgression.circuits.proof.certificate import SUMS

Form = tuple[int, dict[int, int]]
ZERO: Form = (0, {})
ONE: Form = (1, {})
FEW = 6
"""Inputs of which all assignments are gone through, whatever the gates are."""
Row = tuple[list[tuple[int, int]], list[int], int]
"""(node, weight) pairs, thresholds, first gate's node."""


class _Gates:
    """Gates to be found by their row and threshold, in the order in which they were built."""

    def __init__(self, rows: Iterable[Row]):
        self.exact: dict[tuple[frozenset[tuple[int, int]], int], list[int]] = {}
        self.left: dict[int, tuple[frozenset[int], int]] = {}
        for row, thetas, first in rows:
            for k, theta in enumerate(thetas):
                self.exact.setdefault((frozenset(row), theta), []).append(first + k)
                self.left[first + k] = frozenset(n for n, _ in row), theta

    def take(self, weights: dict[int, int], theta: int) -> int:
        """The next one that is not taken; where there is none, the likest, which may be equal: the checker will see.

        Raises ValueError where no gate is left.
        """
        equal = self.exact.get((frozenset(weights.items()), theta))
        gate = equal.pop(0) if equal else max(self.left, key=lambda g: self._likeness(g, set(weights), theta))
        self.left.pop(gate, None)
        return gate

    def _likeness(self, gate: int, nodes: set[int], theta: int) -> tuple[int, bool, int]:
        found, threshold = self.left[gate]
        return -len(found ^ nodes), threshold == theta, -gate


def hint(cell: dict[str, Any], inputs: int, rows: Sequence[Row]) -> str:
    """Words of the rule for a certificate's cell with so many input nodes and these gates."""
    operation, arguments = cell["operation"], cell["arguments"]
    constant = all(type(x) is int for x in cell["results"])
    if operation in SUMS and not (constant and operation == "rescale"):
        return "added " + (" ".join(["0"] * 5) if constant else _added(cell, rows))
    if inputs <= FEW:
        return "enumerated"
    if operation in ("apply", "one_hot") and type(arguments[0]) is dict:
        return "read"
    if operation == "at_least_one" and type(arguments[0]) is dict:
        return "larger"
    if operation == "inverse" and type(arguments[0]) is dict:
        return "scaled " + _forms(map(form_of, cell["mantissa"]))
    if operation == "select" and type(arguments[0]) is dict and not constant:
        return "chosen"
    return "enumerated"


def form_of(bit: Any) -> Form:
    """A bit of a certificate."""
    if type(bit) is int:
        return (0, {bit: 1}) if bit >= 0 else (1, {-1 - bit: -1})
    return bit[0], dict(zip(bit[1::2], bit[2::2], strict=True))


def words(form: Form) -> str:
    constant, weights = form
    return " ".join(map(str, [constant, len(weights), *(f"{n + 1} {w}" for n, w in weights.items())]))


def _forms(forms: Iterable[Form]) -> str:
    return _list(map(words, forms))


def _list(items: Iterable[Any]) -> str:
    found = [str(item) for item in items]
    return " ".join([str(len(found)), *found])


def _added(cell: dict[str, Any], rows: Sequence[Row]) -> str:
    """Columns, stages, the pairs of the last two rows, the carries out of each column, and the sum."""
    columns = [[form_of(bit) for bit in column] for column in cell["columns"]]
    stages = [[(start, size, list(map(form_of, digits))) for start, size, digits in stage] for stage in cell["stages"]]
    last = columns
    for stage in stages:
        last = _after(last, stage)
    digits = {n for stage in stages for part in stage for digit in part[2] for n in digit[1]}
    pairs, carries = _look_ahead(last, [row for row in rows if row[2] > max(digits, default=-1)])
    return " ".join(
        [
            _list(map(_forms, columns)),
            _list(_list(f"{start} {size} {_forms(digits)}" for start, size, digits in stage) for stage in stages),
            _list(f"{words(p)} {words(g)}" for p, g in pairs),
            _forms(carries),
            _forms(map(form_of, cell["sum"])),
        ]
    )


def _after(columns: list[list[Form]], stage: Sequence[tuple[int, int, list[Form]]]) -> list[list[Form]]:
    taken = {j for start, size, _ in stage for j in range(start, start + size)}
    result = [[] if j in taken else list(column) for j, column in enumerate(columns)]
    for start, _, digits in stage:
        for i, digit in enumerate(digits):
            if digit != ZERO:
                result[start + i].append(digit)
    return result


def _look_ahead(columns: list[list[Form]], rows: Sequence[Row]) -> tuple[list[tuple[Form, Form]], list[Form]]:
    """(p, g) of each column: its sum is at least 1, at least 2; and the carry out of each, a sum of gates that exclude
    each other: made in column i, it arrives in column j.
    """
    gates = _Gates(rows)
    if max(map(len, columns)) <= 1:
        return [(column[0] if column else ZERO, ZERO) for column in columns], [ZERO] * len(columns)
    pairs = [(_at_least(merged(column), 1, gates), _at_least(merged(column), 2, gates)) for column in columns]
    carries: list[list[Form]] = [[] for _ in columns]
    for i, (_, made) in enumerate(pairs):
        run = made
        for j in range(i, len(columns)):
            carry = _at_least(run, j + 1 - i, gates)
            if carry == ZERO:
                break
            carries[j].append(carry)
            if j + 1 < len(columns):
                p, g = pairs[j + 1]
                run = merged([run, p, (-g[0], {n: -w for n, w in g[1].items()})])
    return pairs, list(map(merged, carries))


def merged(forms: Iterable[Form]) -> Form:
    constant = 0
    weights: dict[int, int] = {}
    for c, row in forms:
        constant += c
        for n, w in row.items():
            weights[n] = weights.get(n, 0) + w
    return constant, {n: w for n, w in weights.items() if w}


def _at_least(form: Form, theta: int, gates: _Gates) -> Form:
    """[form >= theta] as the builder makes it: a constant, a node, its negation, or the next gate that is equal."""
    constant, weights = form
    theta -= constant
    if theta <= sum(min(w, 0) for w in weights.values()):
        return ONE
    if theta > sum(max(w, 0) for w in weights.values()):
        return ZERO
    if len(weights) == 1:
        ((node, weight),) = weights.items()
        return (0, {node: 1}) if weight > 0 else (1, {node: -1})
    return 0, {gates.take(weights, theta): 1}
