"""Reduced ordered decision diagrams of Boolean functions, with one operation: [sum of weight * function >= theta].

Two functions are equal if and only if their diagrams are the same number.
"""

from collections.abc import Iterable
from typing import NamedTuple

from flowgression.circuits.proof.schema import need

FALSE, TRUE = 0, 1
Term = tuple[int, int]
"""(weight, diagram)."""
MOST = 1 << 20
"""Sums that are looked at; more prove too much to wait for."""


class _Node(NamedTuple):
    variable: int
    low: int
    high: int


class Diagrams:
    """Variables 0, 1, ... are tested in this order on every path."""

    def __init__(self) -> None:
        self._nodes = [_Node(1 << 30, FALSE, FALSE), _Node(1 << 30, TRUE, TRUE)]
        self._number: dict[_Node, int] = {}
        self._known: dict[tuple[tuple[tuple[int, int], ...], int], int] = {}

    def variable(self, k: int) -> int:
        return self._make(_Node(k, FALSE, TRUE))

    def _make(self, node: _Node) -> int:
        if node.low == node.high:
            return node.low
        number = self._number.setdefault(node, len(self._nodes))
        if number == len(self._nodes):
            self._nodes.append(node)
        return number

    def at_least(self, terms: Iterable[Term], theta: int) -> int:
        """[sum of weight * function >= theta]."""
        weights: dict[int, int] = {}
        for weight, function in terms:
            if function == TRUE:
                theta -= weight
            elif function != FALSE:
                weights[function] = weights.get(function, 0) + weight
        if theta <= sum(w for w in weights.values() if w < 0):
            return TRUE
        if theta > sum(w for w in weights.values() if w > 0):
            return FALSE
        key = (tuple(sorted((f, w) for f, w in weights.items() if w)), theta)
        if key not in self._known:
            need(len(self._known) < MOST, "a proof by decision diagrams that is too long")
            self._known[key] = self._split(key[0], theta)
        return self._known[key]

    def _split(self, weighted: tuple[tuple[int, int], ...], theta: int) -> int:
        """Shannon expansion at the first variable."""
        nodes = self._nodes
        first = min(nodes[f].variable for f, _ in weighted)
        low = [(w, nodes[f].low if nodes[f].variable == first else f) for f, w in weighted]
        high = [(w, nodes[f].high if nodes[f].variable == first else f) for f, w in weighted]
        return self._make(_Node(first, self.at_least(low, theta), self.at_least(high, theta)))

    def all_of(self, *functions: int) -> int:
        return self.at_least([(1, f) for f in functions], len(functions))

    def negation(self, f: int) -> int:
        return self.at_least([(-1, f)], 0)

    def choose(self, condition: int, yes: int, no: int) -> int:
        both = self.all_of(condition, yes), self.all_of(self.negation(condition), no)
        return self.at_least([(1, f) for f in both], 1)

    def equal_where(self, care: int, f: int, g: int) -> bool:
        """Whether f = g wherever `care` holds."""
        differ = self.choose(f, self.negation(g), g)
        return self.all_of(care, differ) == FALSE
