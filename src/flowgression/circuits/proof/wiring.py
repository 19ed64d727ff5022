"""The calls: every one has the gates of its cell, and on tags they give the model's expressions."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.cells import Cell, leaves_of
from flowgression.circuits.proof.files import Circuit
from flowgression.circuits.proof.meaning import Input, Model, Numbering, need
from flowgression.circuits.proof.netlist import Bit, Net, Number, Value, read_arguments, read_value

ONE_HOT_RESULTS = {("one_hot", 0), ("inverse", 1)}
"""Results of which exactly one bit is one; the rules of these operations prove it."""
ONE_HOT_ARGUMENT = {"rescale": 2, "select": 0}
"""The argument of which the operation needs that."""


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
    """A distinct cell, its gates as arrays with nodes of its own, and what its calls need."""

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

    def __init__(self, circuit: Circuit, model: Model, certificate: Mapping[str, Any]):
        self.circuit, self.certificate = circuit, certificate
        self.numbering = Numbering()
        self.seen: dict[Signature, int] = {}
        self.claims = certificate["forms"]
        self.calls: list[list[int]] = certificate["calls"]
        self.places = self._places()
        self.first: list[Known] = []
        need(model.outputs.keys() == {port.name for port in circuit.outputs}, "the model has other outputs")
        values: Iterable[Value] = _input_numbers(circuit)
        if "assumed" in certificate:
            values = map(read_value, certificate["assumed"])
            need(sum(each.size for each in model.inputs) == len(certificate["assumed"]), "an input for each argument")
        else:
            need(model.inputs == circuit.inputs, "the model has other inputs than the circuit")
        one_hot = set(certificate.get("one_hot", ())) if "assumed" in certificate else set()
        for k, x in enumerate(values):
            need(isinstance(x, Number) and all(n < circuit.num_inputs for b in x.bits for n in b.nodes), "an input")
            assert isinstance(x, Number)
            self.first.append(self._known(x, self.numbering.input(k), k in one_hot))

    def _known(self, x: Number, tag: int, one_hot: bool) -> Known:
        signature, nodes = take_apart(x, self.seen)
        return Known(signature, np.array(nodes, dtype=np.int64), tag, one_hot)

    def _places(self) -> list[int]:
        """The first gate of each call, and the first one after them."""
        places = [0]
        for form, *_ in self.calls:
            size = self.claims[form]["gates"]
            need(size >= 0, "a cell's gates")
            places.append(places[-1] + size)
        need(places[-1] <= len(self.circuit.theta), "more gates are claimed than there are")
        return places

    def first_calls(self) -> list[Form]:
        """Every distinct cell, on its first call's gates with nodes of its own."""
        nodes: list[np.ndarray] = [each.nodes for each in self.first]
        forms: dict[int, Form] = {}
        for (k, *numbers), place in zip(self.calls, self.places, strict=False):
            claim = self.claims[k]
            if k not in forms:
                forms[k] = self._read_form(claim, place, [nodes[i] for i in numbers])
            form = forms[k]
            local = self._nodes_of_call(form, place, [nodes[i] for i in numbers])
            for result in form.cell.results:
                if isinstance(result, Number):
                    nodes.append(local[take_apart(result, self.seen)[1]])
        need(sorted(forms) == list(range(len(self.claims))), "a cell that is never called")
        return [forms[k] for k in range(len(forms))]

    def _read_form(self, claim: Mapping[str, Any], place: int, numbers: list[np.ndarray]) -> Form:
        c, gates = self.circuit, claim["gates"]
        arguments, results = read_arguments(claim["arguments"]), read_arguments(claim["results"])
        flat = [take_apart(x, self.seen) for x in leaves_of(arguments) if isinstance(x, Number)]
        argument_nodes = np.array([n for _, nodes in flat for n in nodes], dtype=np.int64)
        num_inputs = int(argument_nodes.max(initial=-1)) + 1
        actual = np.full(num_inputs, -1, dtype=np.int64)
        actual[argument_nodes] = np.concatenate([np.zeros(0, dtype=np.int64), *numbers])
        order = np.argsort(actual)
        need(bool(np.all(np.diff(actual[order], prepend=-1) > 0)), "a cell's inputs are not distinct")
        rows = c.gate_row[place : place + gates]
        first, last = (int(rows[0]), int(rows[-1]) + 1) if gates else (0, 0)
        span = slice(c.row_ptr[first], c.row_ptr[last])
        idx, start = c.row_idx[span], c.num_inputs + place
        outside = np.searchsorted(actual[order], idx).clip(max=max(num_inputs - 1, 0))
        if num_inputs:
            inside = idx >= start
            need(bool(np.all(inside | (actual[order][outside] == idx))), "a gate reads a node of another cell")
            idx = np.where(inside, idx - start + num_inputs, order[outside])
        else:
            need(bool(np.all(idx >= start)), "a gate reads a node of another cell")
            idx = idx - start
        sizes = np.diff(c.row_ptr[first : last + 1])
        ends = np.cumsum(sizes)
        pairs = list(zip(idx.tolist(), c.row_w[span].tolist(), strict=True))
        net_rows = [dict(pairs[b - s : b]) for s, b in zip(sizes.tolist(), ends.tolist(), strict=True)]
        need(all(len(r) == s for r, s in zip(net_rows, sizes.tolist(), strict=True)), "a gate reads a node twice")
        theta = c.theta[place : place + gates]
        net = Net(num_inputs, net_rows, (rows - first).tolist(), theta.tolist())
        name, parameters = claim["operation"], claim["parameters"]
        cell = Cell(net, name, parameters, arguments, results, claim)
        operation = self.numbering.operation(name, parameters)
        signatures = [signature for signature, _ in flat]
        arrays = argument_nodes, num_inputs, sizes, idx, c.row_w[span], rows - first, theta
        return Form(cell, operation, signatures, *arrays)

    def _nodes_of_call(self, form: Form, place: int, numbers: list[np.ndarray]) -> np.ndarray:
        """The circuit's node for each of the cell's."""
        start = self.circuit.num_inputs + place
        local = np.empty(form.num_inputs + len(form.theta), dtype=np.int64)
        local[form.num_inputs :] = np.arange(start, start + len(form.theta))
        if numbers:
            given = np.concatenate(numbers)
            local[form.argument_nodes] = given
            need(
                np.array_equal(local[form.argument_nodes], given), "numbers that share nodes otherwise than the cell's"
            )
        return local

    def outputs(self, forms: Sequence[Form]) -> dict[str, list[int]]:
        """Tags of the outputs, after comparing every call with its cell."""
        known = list(self.first)
        results = [[r if isinstance(r, int) else take_apart(r, self.seen) for r in f.cell.results] for f in forms]
        for number, (k, *arguments) in enumerate(self.calls):
            form, place = forms[k], self.places[number]
            given = [known[i] for i in arguments]
            need([each.signature for each in given] == form.signatures, f"call {number} reads other numbers")
            local = self._nodes_of_call(form, place, [each.nodes for each in given])
            need(self._same_gates(form, place, local), f"call {number} has other gates than its cell")
            tags = self._tags(form, given)
            self._check_premise(form, given, tags)
            for j, result in enumerate(results[k]):
                tag = self.numbering.result(form.operation, tags, j)
                if isinstance(result, int):
                    self.numbering.equal_constant(tag, result)
                    continue
                signature, nodes = result
                one_hot = (form.cell.operation, j) in ONE_HOT_RESULTS
                known.append(Known(signature, local[nodes], tag, one_hot))
        return self._read_outputs(known)

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

    def _check_premise(self, form: Form, given: Sequence[Known], tags: Any) -> None:
        """What the rule of this operation needs to know of its arguments (cells.py)."""
        name = form.cell.operation
        if name in ONE_HOT_ARGUMENT:
            argument = form.cell.arguments[ONE_HOT_ARGUMENT[name]]
            if isinstance(argument, Number):
                before = form.cell.arguments[: ONE_HOT_ARGUMENT[name]]
                place = sum(isinstance(x, Number) for x in leaves_of(before))
                need(given[place].one_hot, "a selector is not known to be one-hot")
        if name == "centred_square_sum":
            xs, total = tags
            operation = self.numbering.operation("total", {"plus": 0})
            need(total == self.numbering.result(operation, (xs,)), "a total is not that of the numbers beside it")

    def _read_outputs(self, known: Sequence[Known]) -> dict[str, list[int]]:
        """Tags of the output ports, after comparing each bit; constants and negations have gates after all calls."""
        c = self.circuit
        signatures = list(self.seen)
        extra, nodes = self.places[-1], iter(c.output_nodes.tolist())
        tags: dict[str, list[int]] = {}
        need(set(self.certificate["outputs"]) == {port.name for port in c.outputs}, "the outputs' names")
        for port in c.outputs:
            numbers = self.certificate["outputs"][port.name]
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
        need(number >= 0, "an output's number")
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
        need(node == c.num_inputs + extra, "an output is not the number's bit")
        row = dict(zip(bit.nodes, bit.weights, strict=True))
        need(c.row(extra) == row and int(c.theta[extra]) == 1 - bit.const, "an output's own gate is wrong")
        return 1


def _input_numbers(circuit: Circuit) -> list[Number]:
    """The numbers of the input ports, bit by bit."""
    numbers, start = [], 0
    for port in circuit.inputs:
        lo = -(1 << port.width - 1) if port.signed else 0
        for _ in range(port.size):
            bits = tuple(Bit(0, (start + j,), (1,)) for j in range(port.width))
            numbers.append(Number(lo, lo + (1 << port.width) - 1, bits))
            start += port.width
    need(start == circuit.num_inputs, "input ports of other bits than the circuit's")
    return numbers


def _check_fits(x: Value, port: Input) -> None:
    """The port's decoding of the widened bits must give the number."""
    if isinstance(x, int):
        low, high = (-(1 << port.width - 1), 1 << port.width - 1) if port.signed else (0, 1 << port.width)
        need(low <= x < high, "a constant output beyond its port")
    else:
        signed = x.lo < 0
        room = port.width - (port.signed and not signed)
        need((port.signed or not signed) and len(x.bits) <= room, "an output number beyond its port")
