"""Building circuits gate by gate: affine bits, banks, telescoping, templates; with or without storing the gates.

A Bit is an affine form c + sum_i w_i node_i that is known to be 0 or 1, so NOT costs nothing and a function of an
integer costs only its bank. With `materialise=False` the same code counts gates and levels exactly and stores no edge.
"""

from array import array
from collections.abc import Callable, Hashable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.ir import Circuit, Port, Statistics


class Bit(NamedTuple):
    """const + sum(weights * nodes), always 0 or 1."""

    const: int
    nodes: tuple[int, ...] = ()
    weights: tuple[int, ...] = ()

    def __invert__(self) -> "Bit":
        return Bit(1 - self.const, self.nodes, tuple(-w for w in self.weights))


ZERO, ONE = Bit(0), Bit(1)
Term = tuple[int, Bit]


class Row(NamedTuple):
    """A merged integer sum: const + sum(weights * nodes), with the range of the part that depends on nodes."""

    const: int
    nodes: tuple[int, ...]
    weights: tuple[int, ...]
    low: int
    high: int

    def as_term(self, coefficient: int = 1) -> Term:
        """This sum as a summand of another; it need not be 0 or 1."""
        return coefficient, Bit(self.const, self.nodes, self.weights)


def merge(terms: Iterable[Term], const: int = 0) -> Row:
    """Sum of coefficient * bit, equal nodes merged and cancelled."""
    total: dict[int, int] = {}
    for coefficient, (bit_const, nodes, weights) in terms:
        if bit_const:
            const += coefficient * bit_const
        for node, weight in zip(nodes, weights):  # noqa: B905 (equally long by construction; this is the inner loop)
            if node in total:
                total[node] += coefficient * weight
            else:
                total[node] = coefficient * weight
    values = tuple(total.values())
    if 0 in values:
        total = {node: weight for node, weight in total.items() if weight}
        values = tuple(total.values())
    size, magnitude = sum(values), sum(map(abs, values))
    return Row(const, tuple(total), values, (size - magnitude) // 2, (size + magnitude) // 2)


def extend(row: Row, terms: Iterable[Term]) -> Row:
    """row + sum of coefficient * bit, fast where no node is shared."""
    more = merge(terms)
    if not set(more.nodes).isdisjoint(row.nodes):
        return merge([row.as_term(), more.as_term()])
    const, low, high = row.const + more.const, row.low + more.low, row.high + more.high
    return Row(const, row.nodes + more.nodes, row.weights + more.weights, low, high)


class _Template(NamedTuple):
    """Where a cell's gates were first built, to be repeated elsewhere by shifting."""

    gates: tuple[int, int]
    rows: tuple[int, int]
    edges: tuple[int, int]
    cost: tuple[int, ...]
    base_level: int
    inputs: tuple[int, ...]
    outputs: Any


class Builder:
    """Collects gates. All inputs must be made before the first gate.

    materialise: store the gates (False only counts them).
    templates: repeat a cell whose inputs have the same form by copying instead of building it again.
    """

    def __init__(self, materialise: bool = True, templates: bool = True):
        self.materialise = materialise
        self.templates = templates
        self.num_inputs = 0
        self.levels = array("i")
        self.num_rows = self.wires = self.edges = self.weight_sum = self.largest_weight = 0
        self._row_ptr, self._row_idx, self._row_w = array("q", [0]), array("i"), array("q")
        self._gate_row, self._theta = array("i"), array("q")
        self._seen: dict[Hashable, _Template] = {}

    # ---- nodes ----

    def inputs(self, count: int, level: int = 0) -> list[Bit]:
        """`count` fresh input bits; `level` lets a cell be counted as if it stood deeper in a circuit."""
        if len(self.levels) != self.num_inputs:
            raise RuntimeError("inputs must be made before the first gate")
        first = self.num_inputs
        self.num_inputs += count
        self.levels.extend([level] * count)
        return [Bit(0, (node,), (1,)) for node in range(first, first + count)]

    def bank(self, terms: Iterable[Term], thetas: Sequence[int], const: int = 0) -> list[Bit]:
        """One bit [const + sum >= theta] for each theta; gates only where the answer is not already known."""
        return self.bank_of(merge(terms, const), thetas)

    def bank_of(self, row: Row, thetas: Sequence[int]) -> list[Bit]:
        bits, added = [], 0
        for theta in thetas:
            theta -= row.const
            if theta <= row.low:
                bits.append(ONE)
            elif theta > row.high:
                bits.append(ZERO)
            elif len(row.nodes) == 1:  # the gate would copy its only input, or negate it
                copy = Bit(0, row.nodes, (1,))
                bits.append(copy if row.weights[0] > 0 else ~copy)
            else:
                bits.append(self._add_gate(row, theta, new_row=not added))
                added += 1
        if added:
            self._count(row, added)
        return bits

    def at_least(self, terms: Iterable[Term], theta: int) -> Bit:
        """The bit [sum >= theta]."""
        return self.bank_of(merge(terms), (theta,))[0]

    def conjunction(self, *bits: Bit) -> Bit:
        return self.at_least([(1, bit) for bit in bits], len(bits))

    def disjunction(self, *bits: Bit) -> Bit:
        return self.at_least([(1, bit) for bit in bits], 1)

    def mat(self, terms: Iterable[Term], const: int = 0) -> Bit:
        """One gate for an affine form that is known to be 0 or 1; free where it is a constant, a node or its
        negation.
        """
        return self.bank_of(merge(terms, const), (1,))[0]

    def own_gate(self, terms: Iterable[Term], const: int = 0) -> Bit:
        """As `mat`, but with a gate of its own even where it copies a node, so that its results share no node with
        others.
        """
        row = merge(terms, const)
        if not row.nodes:
            return ONE if row.const else ZERO
        bit = self._add_gate(row, 1 - row.const, new_row=True)
        self._count(row, 1)
        return bit

    def _add_gate(self, row: Row, theta: int, new_row: bool) -> Bit:
        node = len(self.levels)
        levels = self.levels
        level = levels[-1] if not new_row else 1 + max([levels[n] for n in row.nodes], default=0)
        levels.append(level)
        if self.materialise:
            if new_row:
                self._row_idx.extend(row.nodes)
                self._row_w.extend(row.weights)
                self._row_ptr.append(len(self._row_idx))
            self._gate_row.append(self.num_rows)
            self._theta.append(theta)
        return Bit(0, (node,), (1,))

    def _count(self, row: Row, gates: int) -> None:
        fan_in = len(row.nodes)
        self.num_rows += 1
        self.edges += fan_in
        self.wires += gates * fan_in
        self.weight_sum += gates * (row.high - row.low)
        if fan_in:
            self.largest_weight = max(self.largest_weight, max(row.weights), -min(row.weights))

    # ---- what a proof needs to know ----

    def note(self, name: str, value: Any) -> None:
        """Told by a cell of an intermediate result: the columns of a sum, a stage of its addition, a mantissa.

        Does nothing here; `certify.py` keeps what it hears.
        """

    # ---- templates ----

    def call(self, key: Hashable, cell: Callable[..., Any], *arguments: Any) -> Any:
        """cell(self, *arguments), copied from an earlier call with the same key if the arguments have the same form.

        Arguments and results are nested lists or tuples whose leaves have `.bits` and `.with_bits` (arithmetic.Number).
        The form of an argument holds its constants, which bits are the same node, and relative levels, so that a
        copy is exactly what a fresh build would give. `key` must name the cell and everything else it depends on.
        """
        if not self.templates:
            return cell(self, *arguments)
        form, nodes = canonical_form(arguments)
        levels = [self.levels[node] for node in nodes]
        base = min(levels, default=0)
        signature = (key, form, tuple(level - base for level in levels))
        template = self._seen.get(signature)
        if template is not None:
            return self._repeat(template, nodes, base)
        before = self._position()
        outputs = cell(self, *arguments)
        after = self._position()
        gates, rows, edges = zip(before[:3], after[:3], strict=True)
        cost = tuple(b - a for a, b in zip(before[1:], after[1:], strict=True))
        self._seen[signature] = _Template(gates, rows, edges, cost, base, tuple(nodes), outputs)
        return outputs

    def _position(self) -> tuple[int, ...]:
        return (len(self.levels), self.num_rows, len(self._row_idx), self.wires, self.edges, self.weight_sum)

    def _repeat(self, template: _Template, nodes: Sequence[int], base: int) -> Any:
        start, stop = template.gates
        shift = len(self.levels) - start
        levels = np.frombuffer(self.levels, np.int32, stop - start, start * 4) + np.int32(base - template.base_level)
        self.levels.frombytes(levels.tobytes())
        if self.materialise:
            self._repeat_rows(template, nodes, shift)
        rows, _, wires, edges, weight_sum = template.cost
        self.num_rows += rows
        self.wires += wires
        self.edges += edges
        self.weight_sum += weight_sum
        moved = dict(zip(template.inputs, nodes, strict=True))

        def move(bit: Bit) -> Bit:
            return bit._replace(nodes=tuple(n + shift if n >= start else moved[n] for n in bit.nodes))

        return map_bits(template.outputs, move)

    def _repeat_rows(self, template: _Template, nodes: Sequence[int], shift: int) -> None:
        start = template.gates[0]
        first, last = template.edges
        idx = (
            np.frombuffer(self._row_idx, np.int32, last - first, first * 4).copy()
            if last > first
            else np.empty(0, np.int32)
        )
        inner = idx >= start
        outer = np.array(template.inputs, dtype=np.int32)
        order = np.argsort(outer)
        if len(outer):
            place = order[np.searchsorted(outer[order], idx[~inner]).clip(max=len(outer) - 1)]
            if np.any(outer[place] != idx[~inner]):
                raise RuntimeError("a cell reads a node that is not among its arguments")
            idx[~inner] = np.array(nodes, dtype=np.int32)[place]
        idx[inner] += shift
        row_first, row_last = template.rows
        self._append(self._row_ptr, row_first + 1, row_last + 1, len(self._row_idx) - first)
        self._row_idx.frombytes(idx.tobytes())
        self._append(self._row_w, first, last, 0)
        gate_first, gate_last = start - self.num_inputs, template.gates[1] - self.num_inputs
        self._append(self._gate_row, gate_first, gate_last, self.num_rows - row_first)
        self._append(self._theta, gate_first, gate_last, 0)

    @staticmethod
    def _append(target: array, first: int, last: int, shift: int) -> None:
        dtype = np.dtype(np.int32 if target.itemsize == 4 else np.int64)
        if last > first:
            moved = np.frombuffer(target, dtype, last - first, first * target.itemsize) + dtype.type(shift)
            target.frombytes(moved.tobytes())

    # ---- results ----

    def gate(self, number: int) -> tuple[int, list[tuple[int, int]]]:
        """theta and (node, weight) pairs of one stored gate."""
        row = self._gate_row[number]
        span = slice(self._row_ptr[row], self._row_ptr[row + 1])
        return self._theta[number], list(zip(self._row_idx[span], self._row_w[span], strict=True))

    def statistics(self) -> Statistics:
        gates = len(self.levels) - self.num_inputs
        depth = max(self.levels[self.num_inputs :], default=0)
        return Statistics(gates, self.wires, self.edges, depth, self.largest_weight, self.weight_sum)

    def node_of(self, bit: Bit) -> int:
        """The node of an output bit; constants and negations get a gate of their own."""
        if bit.const == 0 and bit.weights == (1,):
            return bit.nodes[0]
        row = merge([(1, bit)])
        node = self._add_gate(row, 1 - row.const, new_row=True).nodes[0]
        self._count(row, 1)
        return node

    def finish(
        self,
        outputs: Iterable[Bit],
        input_ports: Iterable[Port] = (),
        output_ports: Iterable[Port] = (),
        **metadata: Any,
    ) -> Circuit:
        """The circuit that computes `outputs`."""
        nodes = [self.node_of(bit) for bit in outputs]
        if not self.materialise:
            raise RuntimeError("this builder only counts; make it with materialise=True")
        return Circuit(
            num_inputs=self.num_inputs,
            row_ptr=np.array(self._row_ptr, dtype=np.int64),
            row_idx=np.array(self._row_idx, dtype=np.int32),
            row_w=np.array(self._row_w, dtype=np.int64),
            gate_row=np.array(self._gate_row, dtype=np.int32),
            theta=np.array(self._theta, dtype=np.int64),
            level=np.array(self.levels, dtype=np.int32)[self.num_inputs :],
            outputs=np.array(nodes, dtype=np.int32),
            input_ports=tuple(input_ports),
            output_ports=tuple(output_ports),
            metadata=metadata,
        )


def telescope(
    builder: Builder,
    terms: Iterable[Term],
    functions: Sequence[Callable[[int], int]],
    span: tuple[int, int] | None = None,
) -> list[Row]:
    """Each function f of the integer S = sum as an affine row: f(S_min) + sum_v (f(v) - f(v-1)) [S >= v].

    One bank serves all functions; it has a gate only where one of them changes. Depth 1. `span` is the known range
    of S, where it is narrower than the signs of the weights tell.
    """
    row = merge(terms)
    low, high = span or (row.const + row.low, row.const + row.high)
    values = range(low, high + 1)
    tables = [[f(v) for v in values] for f in functions]
    changes = [k for k in range(1, len(values)) if any(t[k] != t[k - 1] for t in tables)]
    bits = builder.bank_of(row, [values[k] for k in changes])
    return [
        merge([(t[k] - t[k - 1], bit) for k, bit in zip(changes, bits, strict=True) if t[k] != t[k - 1]], t[0])
        for t in tables
    ]


def telescope_bits(builder: Builder, terms: Iterable[Term], width: int, f: Callable[[int], int]) -> list[Bit]:
    """The low `width` bits of f(S), each made one gate. Depth 2."""
    functions = [lambda v, j=j: f(v) >> j & 1 for j in range(width)]
    return [builder.bank_of(row, (1,))[0] for row in telescope(builder, terms, functions)]


# ---- nested arguments ----


def canonical_form(tree: Any) -> tuple[Hashable, list[int]]:
    """The shape of nested numbers with nodes numbered by first appearance, and the nodes in that order."""
    local: dict[int, int] = {}

    def visit(item: Any) -> Hashable:
        if type(item) in (list, tuple):
            return tuple(map(visit, item))
        if item.lo == item.hi:
            return item.lo
        bits = tuple((b.const, tuple([local.setdefault(n, len(local)) for n in b.nodes]), b.weights) for b in item.bits)
        return (item.lo, item.hi, bits)

    return visit(tree), list(local)


def map_bits(tree: Any, change: Callable[[Bit], Bit]) -> Any:
    """The same nested numbers with every bit replaced by change(bit)."""
    if type(tree) in (list, tuple):
        return [map_bits(item, change) for item in tree]
    return tree.with_bits(tuple(change(bit) for bit in tree.bits))
