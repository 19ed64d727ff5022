"""The calls: every one has the gates of its cell, and on tags they give the model's expressions."""

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.cell import Cell, leaves_of
from flowgression.circuits.proof.certificate import Call, CellClaim, Certificate, Like
from flowgression.circuits.proof.files import Circuit
from flowgression.circuits.proof.meaning import ONE_HOT_ARGUMENT, ONE_HOT_RESULTS
from flowgression.circuits.proof.model import FRESH, Fresh, Input, Numbering
from flowgression.circuits.proof.netlist import Bit, Net, Number, Value
from flowgression.circuits.proof.schema import need


class Signature(NamedTuple):
    """A number but for its nodes."""

    lo: int
    hi: int
    bits: tuple[tuple[int, tuple[int, ...]], ...]
    """const and weights of each bit."""


def take_apart(x: Number, seen: dict[Signature, int]) -> tuple[int, list[int]]:
    """A number for the signature, and the nodes in the order of their appearance."""
    signature = Signature(x.lo, x.hi, tuple((bit.const, bit.weights) for bit in x.bits))
    return seen.setdefault(signature, len(seen)), [n for bit in x.bits for n in bit.nodes]


class Form(NamedTuple):
    """A distinct cell, its gates as arrays with nodes of its own, and what its calls need.

    premise: which of a call's numbers must be one-hot, or None.
    """

    cell: Cell
    operation: int
    signatures: list[int]
    argument_nodes: np.ndarray
    num_inputs: int
    row_sizes: np.ndarray
    row_idx: np.ndarray
    row_w: np.ndarray
    gate_row: np.ndarray
    theta: np.ndarray
    premise: int | None


class Known(NamedTuple):
    """A number of the circuit: its signature, its nodes, its expression's tag, and whether one bit alone is one."""

    signature: int
    nodes: np.ndarray
    tag: int
    one_hot: bool


class Wiring:
    """The calls, gone through twice: `first_calls` reads each cell from the gates of its first call, `outputs`
    compares every call with its cell and runs the calls on tags.
    """

    def __init__(self, circuit: Circuit, certificate: Certificate):
        self.circuit, self.certificate = circuit, certificate
        self.numbering = Numbering()
        self.seen: dict[Signature, int] = {}
        self.claims, self.calls = certificate.cells, certificate.calls
        self.places = self._places()
        model = certificate.model
        ports = [(port.name, port.shape) for port in circuit.outputs]
        need(ports == [(label, shape) for label, shape, _ in model.outputs], "the model has other outputs")
        fresh = circuit.num_inputs - sum(port.size * port.width for port in model.inputs)
        added = [Input(FRESH, (fresh,), 1, False)] if fresh else []
        need(circuit.inputs == model.inputs + added, "the model has other inputs than the circuit")
        self.first = list(self._inputs(model.inputs))
        self.first_fresh = circuit.num_inputs - fresh

    def _inputs(self, ports: Sequence[Input]) -> Iterator[Known]:
        """The numbers of the input ports, bit by bit."""
        start = number = 0
        for port in ports:
            lo = -(1 << port.width - 1) if port.signed else 0
            plain = Number(lo, lo + (1 << port.width) - 1, tuple(Bit(0, (j,), (1,)) for j in range(port.width)))
            signature, _ = take_apart(plain, self.seen)
            for _ in range(port.size):
                yield Known(signature, np.arange(start, start + port.width), self.numbering.input(number), False)
                start, number = start + port.width, number + 1

    def _places(self) -> list[int]:
        """The first gate of each call, and the first one after them."""
        places = [0]
        for each in self.calls:
            places.append(places[-1] + (self.claims[each.cell].gates if isinstance(each, Call) else 0))
        rows = self.circuit.gate_row
        need(places[-1] <= len(rows), "more gates are claimed than there are")
        ends = np.array([p for p in places if 0 < p < len(rows)], dtype=np.int64)
        need(bool(np.all(rows[ends] != rows[ends - 1])), "a row of two calls")
        return places

    def first_calls(self) -> list[Form]:
        """Every distinct cell, on its first call's gates with nodes of its own."""
        nodes: list[np.ndarray] = [each.nodes for each in self.first]
        forms: dict[int, Form] = {}
        fresh = self.first_fresh
        for each, place in zip(self.calls, self.places, strict=False):
            if isinstance(each, Like):
                nodes.append(_copy_of(nodes[each.number], fresh))
                fresh += len(set(nodes[-1].tolist()))
                continue
            numbers = [nodes[i] for i in each.numbers]
            if each.cell not in forms:
                forms[each.cell] = self._read_form(self.claims[each.cell], place, numbers)
            form = forms[each.cell]
            local = self._nodes_of_call(form, place, numbers)
            for result in form.cell.results:
                if isinstance(result, Number):
                    found = np.array(take_apart(result, self.seen)[1], dtype=np.int64)
                    need(bool(np.all(found < len(local))), "a result on nodes that its cell has not")
                    nodes.append(local[found])
        need(fresh == self.circuit.num_inputs, "fresh inputs that no argument has")
        return [forms[k] for k in range(len(forms))]

    def _read_form(self, claim: CellClaim, place: int, numbers: list[np.ndarray]) -> Form:
        c, gates = self.circuit, claim.gates
        flat = [take_apart(x, self.seen) for x in leaves_of(claim.arguments) if isinstance(x, Number)]
        argument_nodes = np.array([n for _, nodes in flat for n in nodes], dtype=np.int64)
        num_inputs, given = claim.num_inputs, np.concatenate([np.zeros(0, dtype=np.int64), *numbers])
        need(len(given) == len(argument_nodes), "a call's numbers have other nodes than its cell's")
        actual = np.zeros(num_inputs, dtype=np.int64)
        actual[argument_nodes] = given
        order = np.argsort(actual)
        rows = c.gate_row[place : place + gates].astype(np.int64)
        first, last = (int(rows[0]), int(rows[-1]) + 1) if gates else (0, 0)
        span = slice(c.row_ptr[first], c.row_ptr[last])
        idx, start = c.row_idx[span].astype(np.int64), c.num_inputs + place
        inside = idx >= start
        if num_inputs:
            outside = np.searchsorted(actual[order], idx).clip(max=num_inputs - 1)
            need(bool(np.all(inside | (actual[order][outside] == idx))), "a gate reads a node of another cell")
            idx = np.where(inside, idx - start + num_inputs, order[outside])
        else:
            need(bool(np.all(inside)), "a gate reads a node of another cell")
            idx = idx - start
        sizes = np.diff(c.row_ptr[first : last + 1])
        ends = np.cumsum(sizes)
        pairs = list(zip(idx.tolist(), c.row_w[span].tolist(), strict=True))
        net_rows = [dict(pairs[b - s : b]) for s, b in zip(sizes.tolist(), ends.tolist(), strict=True)]
        need(all(len(r) == s for r, s in zip(net_rows, sizes.tolist(), strict=True)), "a gate reads a node twice")
        theta = c.theta[place : place + gates]
        net = Net(num_inputs, net_rows, (rows - first).tolist(), theta.tolist())
        label, parameters = claim.operation, claim.parameters
        cell = Cell(net, label, parameters, claim.arguments, claim.results, claim.sum, claim.mantissa)
        operation = self.numbering.operation(label, parameters)
        signatures = [signature for signature, _ in flat]
        arrays = argument_nodes, num_inputs, sizes, idx, c.row_w[span], rows - first, theta
        return Form(cell, operation, signatures, *arrays, _premise(claim))

    def _nodes_of_call(self, form: Form, place: int, numbers: list[np.ndarray]) -> np.ndarray:
        """The circuit's node for each of the cell's; different ones for different ones."""
        start = self.circuit.num_inputs + place
        local = np.empty(form.num_inputs + len(form.theta), dtype=np.int64)
        local[form.num_inputs :] = np.arange(start, start + len(form.theta))
        if numbers:
            given = np.concatenate(numbers)
            need(len(given) == len(form.argument_nodes), "a call's numbers have other nodes than its cell's")
            local[form.argument_nodes] = given
            inputs = np.sort(local[: form.num_inputs])
            alike = np.array_equal(local[form.argument_nodes], given) and bool(np.all(inputs[1:] != inputs[:-1]))
            need(alike, "numbers that share nodes otherwise than the cell's")
        return local

    def outputs(self, forms: Sequence[Form]) -> tuple[dict[str, list[int]], list[Fresh]]:
        """Tags of the outputs and the fresh arguments, after comparing every call with its cell."""
        known, free = list(self.first), self.first_fresh
        fresh: list[Fresh] = []
        results = [[r if isinstance(r, int) else take_apart(r, self.seen) for r in f.cell.results] for f in forms]
        signatures = list(self.seen)
        for number, each in enumerate(self.calls):
            if isinstance(each, Like):
                like = known[each.number]
                signature = signatures[like.signature]
                nodes = _copy_of(like.nodes, free)
                free += len(set(nodes.tolist()))
                known.append(Known(like.signature, nodes, self.numbering.fresh(len(fresh)), like.one_hot))
                fresh.append(Fresh(like.tag, signature.lo, signature.hi, like.one_hot))
                continue
            form, place = forms[each.cell], self.places[number]
            given = [known[i] for i in each.numbers]
            need([one.signature for one in given] == form.signatures, f"call {number} reads other numbers")
            local = self._nodes_of_call(form, place, [one.nodes for one in given])
            need(self._same_gates(form, place, local), f"call {number} has other gates than its cell")
            need(form.premise is None or given[form.premise].one_hot, "a selector is not known to be one-hot")
            tags = self._tags(form, given)
            self._check_total(form, tags)
            for j, result in enumerate(results[each.cell]):
                tag = self.numbering.result(form.operation, tags, j)
                if isinstance(result, int):
                    self.numbering.equal_constant(tag, result)
                    continue
                made, nodes_of_result = result
                one_hot = (form.cell.operation, j) in ONE_HOT_RESULTS
                known.append(Known(made, local[nodes_of_result], tag, one_hot))
        return self._read_outputs(known, signatures), fresh

    def _tags(self, form: Form, given: Sequence[Known]) -> Any:
        """Tags of the arguments, nested like them."""
        numbers = iter(given)

        def tag(x: Any) -> Any:
            if isinstance(x, list):
                return tuple(map(tag, x))
            return self.numbering.constant(x) if isinstance(x, int) else next(numbers).tag

        return tuple(map(tag, form.cell.arguments))

    def _same_gates(self, form: Form, place: int, local: np.ndarray) -> bool:
        c, gates = self.circuit, len(form.theta)
        if not gates:
            return True
        rows = c.gate_row[place : place + gates]
        ends = c.row_ptr[rows[0] : rows[-1] + 2]
        span = slice(ends[0], ends[-1])
        return (
            np.array_equal(rows - rows[0], form.gate_row)
            and np.array_equal(np.diff(ends), form.row_sizes)
            and np.array_equal(c.theta[place : place + gates], form.theta)
            and np.array_equal(c.row_idx[span], local[form.row_idx])
            and np.array_equal(c.row_w[span], form.row_w)
        )

    def _check_total(self, form: Form, tags: Any) -> None:
        """What the rule of a centred sum needs to know of its arguments (cells.py)."""
        if form.cell.operation == "centred_square_sum":
            xs, total = tags
            operation = self.numbering.operation("total", {"plus": 0})
            need(total == self.numbering.result(operation, (xs,)), "a total is not that of the numbers beside it")

    def _read_outputs(self, known: Sequence[Known], signatures: Sequence[Signature]) -> dict[str, list[int]]:
        """Tags of the output ports, after comparing each bit; constants and negations have gates after all calls."""
        c = self.circuit
        extra, nodes = self.places[-1], iter(c.output_nodes.tolist())
        tags: dict[str, list[int]] = {}
        need(len(self.certificate.outputs) == len(c.outputs), "other outputs than the circuit's")
        for port, numbers in zip(c.outputs, self.certificate.outputs, strict=True):
            need(len(numbers) == port.size, f"numbers of the output {port.name}")
            tags[port.name] = []
            for number in numbers:
                x, tag = self._output_value(number, known, signatures)
                _check_fits(x, port)
                tags[port.name].append(tag)
                for j in range(port.width):
                    bit = Bit(x >> j & 1) if isinstance(x, int) else x.bit(j)
                    extra += self._check_output_bit(bit, next(nodes), extra)
        need(next(nodes, None) is None and extra == len(c.theta), "gates or outputs beyond the model's")
        return tags

    def _output_value(self, number: Any, known: Sequence[Known], signatures: Sequence[Signature]) -> tuple[Value, int]:
        """number: that of a number, or [constant]."""
        if isinstance(number, list):
            (value,) = number
            return value, self.numbering.constant(value)
        need(number < len(known), "an output's number")
        each = known[number]
        nodes = iter(each.nodes.tolist())
        lo, hi, shape = signatures[each.signature]
        bits = tuple(Bit(const, tuple(next(nodes) for _ in weights), weights) for const, weights in shape)
        return Number(lo, hi, bits), each.tag

    def _check_output_bit(self, bit: Bit, node: int, extra: int) -> int:
        """1 if the bit has a gate of its own, number `extra`, else 0."""
        if (bit.const, bit.weights) == (0, (1,)):
            need(node == bit.nodes[0], "an output is not the number's bit")
            return 0
        c = self.circuit
        need(node == c.num_inputs + extra and extra < len(c.theta), "an output is not the number's bit")
        row = sorted(zip(bit.nodes, bit.weights, strict=True))
        need(sorted(c.row(extra)) == row and int(c.theta[extra]) == 1 - bit.const, "an output's own gate is wrong")
        return 1


def _premise(claim: CellClaim) -> int | None:
    """The place among a call's numbers of the one that must be one-hot; the operation's rule refuses a constant."""
    place = ONE_HOT_ARGUMENT.get(claim.operation)
    if place is None:
        return None
    need(isinstance(claim.arguments[place], Number), "a power that is a constant")
    return sum(isinstance(x, Number) for x in leaves_of(claim.arguments[:place]))


def _copy_of(nodes: np.ndarray, first: int) -> np.ndarray:
    """The same nodes, renamed to first, first + 1, ... in the order of their appearance."""
    named: dict[int, int] = {}
    return np.array([named.setdefault(n, first + len(named)) for n in nodes.tolist()], dtype=np.int64)


def _check_fits(x: Value, port: Input) -> None:
    """The port's decoding of the widened bits must give the number."""
    if isinstance(x, int):
        low, high = (-(1 << port.width - 1), 1 << port.width - 1) if port.signed else (0, 1 << port.width)
        need(low <= x < high, "a constant output beyond its port")
    else:
        signed = x.lo < 0
        room = port.width - (port.signed and not signed)
        need((port.signed or not signed) and len(x.bits) <= room, "an output number beyond its port")
