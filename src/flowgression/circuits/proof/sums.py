"""Why an iterated addition is right: its columns are the wanted polynomial, each count is a count, the carries carry.

A sum of W bits is proved modulo 2^W, in three parts:
1. the columns' value, sum over j of 2^j (bits of column j), is the wanted polynomial of the cell's input nodes, as an
   identity of multilinear polynomials (nodes are 0 or 1, so x^2 = x);
2. each stage replaces runs of columns by the digits of their sum S; digits depend on S alone, so it is enough to go
   through the values of S, not of the inputs;
3. at most two bits per column are left, and the result's bits are those of ripple carry, by decision diagrams.
An interval that fits into W bits then makes the sum exact.
"""

from collections.abc import Iterable, Mapping, Sequence
from itertools import product
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.diagrams import FALSE, Diagrams
from flowgression.circuits.proof.meaning import DOMAIN
from flowgression.circuits.proof.netlist import (
    Bit,
    Net,
    Number,
    Value,
    high_of,
    low_of,
    magnitude,
    read_bit,
    variables_of,
)
from flowgression.circuits.proof.schema import Each, Int, Items, Rejected, Schema, must, need

Monomial = tuple[int, ...]
Polynomial = dict[Monomial, int]
"""Product of distinct nodes, in rising order -> coefficient."""
INTEGER_LIMIT = 1 << 63
WIDEST = 64
"""Columns of a sum."""
MOST_MONOMIALS = 1 << 22


def affine(bit: Bit, factor: int = 1) -> Polynomial:
    result: Polynomial = {(): factor * bit.const} if bit.const else {}
    for node, weight in zip(bit.nodes, bit.weights, strict=True):
        result[node,] = factor * weight
    return result


def add_to(total: Polynomial, other: Mapping[Monomial, int], factor: int = 1) -> None:
    for monomial, c in other.items():
        total[monomial] = total.get(monomial, 0) + factor * c


def polynomial_of(x: Value) -> Polynomial:
    if isinstance(x, int):
        return {(): x}
    result: Polynomial = {}
    for weight, bit in zip(x.weights, x.bits, strict=True):
        add_to(result, affine(bit, weight))
    return result


def multiply(p: Mapping[Monomial, int], q: Mapping[Monomial, int]) -> Polynomial:
    result: Polynomial = {}
    need(len(p) * len(q) <= MOST_MONOMIALS, "a polynomial of too many terms")
    for a, x in p.items():
        for b, y in q.items():
            monomial = tuple(sorted({*a, *b}))
            result[monomial] = result.get(monomial, 0) + x * y
    return result


def reduced(p: Mapping[Monomial, int], modulus: int) -> Polynomial:
    return {monomial: c % modulus for monomial, c in p.items() if c % modulus}


class Exact:
    """An integer polynomial of the arguments: its value lies in lo..hi, and no intermediate result exceeds `bound`."""

    def __init__(self) -> None:
        self.polynomial: Polynomial = {}
        self.lo = self.hi = self.bound = 0

    def add(self, x: Value, factor: int = 1) -> None:
        add_to(self.polynomial, polynomial_of(x), factor)
        self._widen(factor * low_of(x), factor * high_of(x), abs(factor) * magnitude(x))

    def add_product(self, x: Value, y: Value, factor: int = 1) -> None:
        add_to(self.polynomial, multiply(polynomial_of(x), polynomial_of(y)), factor)
        ends = [factor * a * b for a in (low_of(x), high_of(x)) for b in (low_of(y), high_of(y))]
        if x == y:
            ends = [factor * low_of(x) ** 2, factor * high_of(x) ** 2] + [0] * (low_of(x) <= 0 <= high_of(x))
        self._widen(min(ends), max(ends), abs(factor) * magnitude(x) * magnitude(y))

    def _widen(self, a: int, b: int, size: int) -> None:
        self.lo, self.hi, self.bound = self.lo + min(a, b), self.hi + max(a, b), self.bound + size


class Stage(NamedTuple):
    """The digits of the sum of some columns."""

    start: int
    size: int
    digits: list[Bit]


class Sum(NamedTuple):
    """What the compiler says of a sum."""

    columns: list[list[Bit]]
    stages: list[list[Stage]]
    bits: tuple[Bit, ...]


_STAGE = Items(Int(0, WIDEST - 1), Int(1, WIDEST), Each(read_bit, 1, WIDEST))
SUM: dict[str, Schema] = {
    "columns": Each(Each(read_bit, 0), 1, WIDEST),
    "stages": Each(Each(_STAGE, 0, WIDEST), 0, 8),
    "sum": Each(read_bit, 1, WIDEST),
}
"""The schemas of a sum's hints."""


def read_sum(data: Mapping[str, Any], where: str) -> Sum:
    """Of fields that follow the schemas."""
    width = len(data["sum"])
    must(len(data["columns"]) == width, f"{where} has not as many columns as bits")
    stages = [[Stage(*each) for each in stage] for stage in data["stages"]]
    for each in (each for stage in stages for each in stage):
        must(each.start + max(each.size, len(each.digits)) <= width, f"{where} has a stage beyond its columns")
    return Sum(data["columns"], stages, tuple(data["sum"]))


def prove_sum(net: Net, claim: Sum, wanted: Mapping[Monomial, int], argument_bits: Iterable[Bit]) -> None:
    """The sum's bits are those of the wanted polynomial modulo 2^W; every argument bit is known to be 0 or 1."""
    _prove_columns(net, claim.columns, wanted)
    known, columns = set(argument_bits), claim.columns
    for stage in claim.stages:
        columns = _prove_stage(net, columns, stage, known)
    _prove_carries(net, columns, claim.bits, known)


def _prove_columns(net: Net, columns: Sequence[Sequence[Bit]], wanted: Mapping[Monomial, int]) -> None:
    weights: dict[int, int] = {}
    total: Polynomial = {}
    for j, column in enumerate(columns):
        for bit in column:
            total[()] = total.get((), 0) + (bit.const << j)
            for node, weight in zip(bit.nodes, bit.weights, strict=True):
                weights[node] = weights.get(node, 0) + (weight << j)
    for node, weight in weights.items():
        add_to(total, _expand(net, node), weight)
    modulus = 1 << len(columns)
    need(reduced(total, modulus) == reduced(wanted, modulus), "the columns are not the wanted polynomial")


def _expand(net: Net, node: int) -> Polynomial:
    """A node as a polynomial of inputs: an input, or a gate on at most four of them, by its truth table."""
    if node < net.num_inputs:
        return {(node,): 1}
    row, theta = net.gate(node)
    inputs = sorted(row)
    need(0 < len(inputs) <= 4 and inputs[-1] < net.num_inputs, "a column holds more than a product of inputs")
    if theta == 2 == len(inputs) and set(row.values()) == {1}:  # the common case
        return {tuple(inputs): 1}
    result: Polynomial = {}
    for values in product((0, 1), repeat=len(inputs)):
        if sum(row[n] * v for n, v in zip(inputs, values, strict=True)) >= theta:
            case: Polynomial = {(): 1}
            for n, v in zip(inputs, values, strict=True):
                case = multiply(case, {(n,): 1} if v else {(): 1, (n,): -1})
            add_to(result, case)
    return result


def _prove_stage(
    net: Net, columns: Sequence[Sequence[Bit]], stage: Sequence[Stage], known: set[Bit]
) -> list[list[Bit]]:
    """The columns after the stage."""
    width = len(columns)
    result = [list(column) for column in columns]
    for start, size, _ in stage:
        need(all(each is not None for each in result[start : start + size]), "a stage counts a column twice")
        result[start : start + size] = [None] * size  # type: ignore[list-item]
    result = [column or [] for column in result]
    for start, size, digits in stage:
        terms = [(1 << i, bit) for i, column in enumerate(columns[start : start + size]) for bit in column]
        need(all(bit.plainly_a_bit or bit in known for _, bit in terms), "a summand is not known to be a bit")
        _prove_digits(net, terms, digits, width - start)
        for i, digit in enumerate(digits):
            if digit != Bit(0):
                result[start + i].append(digit)
    return result


def _prove_digits(net: Net, terms: Sequence[tuple[int, Bit]], digits: Sequence[Bit], width: int) -> None:
    """sum of 2^i digit_i = S modulo 2^width, for every value that S = sum of factor * bit can take."""
    const = 0
    part: dict[int, int] = {}
    for factor, bit in terms:
        const += factor * bit.const
        for node, weight in zip(bit.nodes, bit.weights, strict=True):
            part[node] = part.get(node, 0) + factor * weight
    part = {node: weight for node, weight in part.items() if weight}
    low, high = (sum(sign * max(sign * w, 0) for w in part.values()) for sign in (-1, 1))
    if len(part) != 1:  # every node is 0 or 1, and so is every bit
        low, high = max(low, -const), min(high, sum(factor for factor, _ in terms) - const)
    need(high - low < DOMAIN and max(-low, high, abs(const)) < 1 << 60, "a sum of more values than are enumerated")
    values = np.array([low, high]) if len(part) == 1 else np.arange(low, high + 1)  # one node: no gate is needed
    reader = _SumReader(net, part, values)
    rest = values + const
    for digit in digits:
        value = np.full(len(values), digit.const, dtype=np.int64)
        for node, weight in zip(digit.nodes, digit.weights, strict=True):
            value += weight * reader.node(node)
        need(bool(np.all((value == 0) | (value == 1))), "a digit is not always 0 or 1")
        need(bool(np.all((rest & 1) == value)), "digits are not those of their columns' sum")
        rest >>= 1
    need(len(digits) == width or not rest.any(), "digits are not those of their columns' sum")


class _SumReader:
    """Nodes that depend on nothing but s = sum of the part, for given values of s, rising."""

    def __init__(self, net: Net, part: dict[int, int], values: np.ndarray):
        self.net, self.part, self.values = net, part, values
        self.row: int | None = None

    def threshold(self, node: int) -> int | None:
        """theta, if the node is [s >= theta]."""
        if node < self.net.num_inputs:
            return None
        row = self.net.row_of(node)
        if self.row is None and self.net.rows[row] == self.part:
            self.row = row  # equal rows are compared once; a second row of the same sum would be refused
        return self.net.theta[node - self.net.num_inputs] if row == self.row else None

    def node(self, node: int) -> np.ndarray:
        """[s >= theta], or a gate on such gates, or the only node of the part."""
        if len(self.part) == 1 and node in self.part:
            return (self.values != 0).astype(np.int64)
        theta = self.threshold(node)
        if theta is not None:
            return (self.values >= theta).astype(np.int64)
        row, theta = self.net.gate(node)
        jumps = np.zeros(len(self.values) + 1, dtype=np.int64)  # each [s >= t] adds its weight from t on
        for inner, weight in row.items():
            place = self.threshold(inner)
            if place is None:
                raise Rejected("a digit depends on more than its columns' sum")
            jumps[np.searchsorted(self.values, place)] += weight
        return (np.cumsum(jumps)[:-1] >= theta).astype(np.int64)


def _prove_carries(net: Net, columns: Sequence[Sequence[Bit]], bits: Sequence[Bit], known: set[Bit]) -> None:
    """The bits are those of the sum of at most two rows."""
    diagrams = Diagrams()
    nodes = variables_of((bit for column in columns for bit in column), diagrams)
    given = [bit for column in columns for bit in column if bit in known]
    legal = net.number_diagrams(diagrams, Number(0, (1 << len(given)) - 1, tuple(given)), nodes)[1]
    carry = FALSE
    for column, found in zip(columns, bits, strict=True):
        need(len(column) <= 2, "more than two rows are left")
        terms = [(1, net.bit_diagram(diagrams, bit, nodes, legal)) for bit in column] + [(1, carry)]
        one, carry, three = (diagrams.at_least(terms, k) for k in (1, 2, 3))
        odd = diagrams.at_least([(1, one), (-1, carry), (1, three)], 1)
        same = diagrams.equal_where(legal, net.bit_diagram(diagrams, found, nodes, legal), odd)
        need(same, "a bit of the sum is wrong")


def exact_number(claim: Sum, lo: int, hi: int) -> Number:
    """The sum as a number, after proof that its width holds lo..hi."""
    width = len(claim.bits)
    fits = -(1 << width - 1) <= lo and hi < 1 << width - 1 if lo < 0 else hi < 1 << width
    need(fits, "a sum is too narrow for its interval")
    return Number(lo, hi, claim.bits)
