"""A proof as plain text, for the checker of proofs/ (docs/proofs.md), which shares no code with `proof/`.

Words and integers, section by section; nodes and values count from 1. The model has one step for each call; that its
outputs are the certificate's model, expression by expression, is compared when the text is written.
"""

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO, Any, NamedTuple

from flowgression.circuits.plain_hints import Row, form_of, hint, words
from flowgression.circuits.proof.certificate import read_certificate
from flowgression.circuits.proof.files import Circuit, read_circuit, read_json_file
from flowgression.errors import InputError
from flowgression.files import atomic_write

TEXT = "proof.txt"
HOT = {("one_hot", 0), ("inverse", 1)}
"""Results that are powers of two."""
TREE = Any
"""Nested lists, as JSON has them."""


def write_text(folder: str | Path) -> Path:
    """FOLDER/circuit.npz and certificate.json -> FOLDER/proof.txt, whose path is returned.

    Raises Damaged for files that are none of the format, and InputError for a proof of cells alone (`prove --cells`)
    and where the certificate is not that of the circuit and the model.
    """
    folder = Path(folder)
    circuit = read_circuit(folder / "circuit.npz")
    certificate = read_json_file(folder / "certificate.json")
    model = read_certificate(certificate).model
    outputs = [(port.name, port.shape) for port in circuit.outputs]
    if model.inputs != circuit.inputs or [(name, shape) for name, shape, _ in model.outputs] != outputs:
        raise InputError("the model's inputs and outputs have other names or shapes than the circuit's.")
    path = folder / TEXT
    try:
        text = _Text(circuit, certificate)
        with atomic_write(path, "w") as file:
            text.write(file)
    except (IndexError, KeyError, ValueError) as error:  # a node, a number or a gate that is not there
        raise InputError(f"the certificate is not that of its circuit ({error!r}).") from error
    return path


class _Known(NamedTuple):
    """A number of the circuit: the text's value, its expression, its nodes in the order of its bits."""

    value: int
    expression: int
    nodes: list[int]


class _Text:
    def __init__(self, circuit: Circuit, certificate: dict[str, Any]):
        self.circuit, self.certificate = circuit, certificate
        if any(type(call) is dict for call in certificate["calls"]):
            raise InputError("the proof is of cells alone (--cells), which has no text; prove a whole program.")
        self.ports = list(_ports(circuit.inputs, range(circuit.num_inputs)))
        self.steps: list[str] = []
        self.following = len(self.ports) + 1
        self.constants: dict[int, int] = {}
        """Values of the text."""
        self.constant_of: dict[tuple[int, int], int] = {}
        """(expression, result) that the compiler found to be constant."""
        self.first: dict[int, tuple[int, list[int]]] = {}
        """Cell -> the gates before its first call, and that call's nodes."""
        self.calls: list[str] = []
        self.operations = [_words_and_meaning(c["operation"], c["parameters"]) for c in certificate["cells"]]
        self._tags: dict[Any, int] = {}
        self.numbers = [_Known(k + 1, self._tag("input", k), nodes) for k, (_, nodes) in enumerate(self.ports)]
        gates = 0
        for form, *given in certificate["calls"]:
            self._call(form, [self.numbers[k] for k in given], gates)
            gates += certificate["cells"][form]["gates"]
        self.outputs = [
            _Known(self._constant(k[0]), self._tag("constant", k[0]), []) if type(k) is list else self.numbers[k]
            for each in certificate["outputs"]
            for k in each
        ]
        if [each.expression for each in self.outputs] != self._expressions():
            raise InputError("the calls of the certificate are not its model.")

    def _call(self, form: int, given: list[_Known], gates: int) -> None:
        """One more step of the model and one more call."""
        cell, arguments = self.certificate["cells"][form], iter(given)
        operation, meant = self.operations[form]
        taken = _map(
            cell["arguments"],
            lambda x: _Known(self._constant(x), self._tag("constant", x), []) if type(x) is int else next(arguments),
        )
        expression = self._tag(meant, _map_known(taken, lambda each: each.expression))
        rows = [row if type(row) is tuple else (row,) for row in _map_known(taken, lambda each: each.value)]
        inputs: dict[int, int] = {}
        for argument, known in zip(_numbers(cell["arguments"]), given, strict=True):
            inputs |= dict(zip(_nodes(argument), known.nodes, strict=True))
        start = self.circuit.num_inputs + gates
        local = [inputs[k] for k in range(len(inputs))] + list(range(start, start + cell["gates"]))
        self.first.setdefault(form, (gates, local))
        self.calls.append(f"{self.following} {form + 1} {_list([n + 1 for n in local[: len(inputs)]])}")
        self.steps.append(f"apply_to {operation} {_list([_list(row) for row in rows])}")
        for j, result in enumerate(cell["results"]):
            if type(result) is int:
                self.constant_of[expression, j] = result
            else:
                nodes = [local[n] for n in _nodes(result)]
                self.numbers.append(_Known(self.following, self._tag(expression, j), nodes))
            self.following += 1

    def _tag(self, *expression: Any) -> int:
        """Equal for equal expressions alone."""
        return self._tags.setdefault(expression, len(self._tags))

    def _constant(self, c: int) -> int:
        if c not in self.constants:
            self.constants[c] = self.following
            self.steps.append(f"constant {c}")
            self.following += 1
        return self.constants[c]

    def _expressions(self) -> list[int]:
        """Those of the outputs in the certificate's model, with the constants that the compiler found."""
        model = self.certificate["model"]
        operations = [_words_and_meaning(*each) for each in model["operations"]]
        found = [self._tag("input", k) for k in range(len(self.ports))]
        for step in model["steps"]:
            if type(step) is int:
                found.append(self._tag("constant", step))
                continue
            words, meant = operations[step[0]]
            expression = self._tag(meant, _map(step[1:], found.__getitem__))
            for j in range(2 if words.startswith("inverse ") else 1):
                known = self.constant_of.get((expression, j))
                found.append(self._tag(expression, j) if known is None else self._tag("constant", known))
        return [found[k] for _, _, values in model["outputs"] for k in values]

    # ---- sections ----

    def write(self, file: IO[Any]) -> None:
        print("flowgression-plain-2", file=file)
        words = " ".join(f"{key} {value};" for key, value in self.certificate["model"]["name"].items())
        print(f"# {words} {len(self.circuit.theta)} gates", file=file)
        _section(file, "inputs", [_port(signed, nodes) for signed, nodes in self.ports])
        _section(file, "model", self.steps)
        _section(file, "outputs", self._outputs())
        _section(file, "cells", [self._cell(k, cell) for k, cell in enumerate(self.certificate["cells"])])
        _section(file, "calls", self.calls)
        banks = list(self._banks(0, len(self.circuit.theta)))
        print(f"banks {self.circuit.num_inputs + 1} {len(banks)}", file=file)
        for row, thetas, _ in banks:
            print(_bank(row, thetas), file=file)

    def _outputs(self) -> list[str]:
        ports = _ports(self.circuit.outputs, self.circuit.output_nodes.tolist())
        return [f"{known.value} {_port(*port)}" for known, port in zip(self.outputs, ports, strict=True)]

    def _cell(self, k: int, cell: dict[str, Any]) -> str:
        before, local = self.first[k]
        inputs = len(local) - cell["gates"]
        operation = cell["operation"]
        rows = [row if type(row) is list else [row] for row in cell["arguments"]]
        hot = _power_argument(operation)
        arguments = [_list([_number(x, i == hot) for x in row]) for i, row in enumerate(rows)]
        results = [_number(x, (operation, j) in HOT) for j, x in enumerate(cell["results"])]
        renamed = {node: i for i, node in enumerate(local)}
        banks = [
            ([(renamed[n], w) for n, w in row], thetas, renamed[first])
            for row, thetas, first in self._banks(before, before + cell["gates"])
        ]
        parts = [inputs, _operation(operation, cell["parameters"]), _list(arguments), _list(results)]
        gates = _list([_bank(row, thetas) for row, thetas, _ in banks], "\n    ")
        return " ".join([*map(str, parts), gates, "\n    " + hint(cell, inputs, banks)])

    def _banks(self, first: int, last: int) -> Iterator[Row]:
        """Rows of the circuit's nodes, with the thresholds of the gates that share them."""
        c, gate = self.circuit, first
        while gate < last:
            row, start = c.gate_row[gate], gate
            while gate < last and c.gate_row[gate] == row:
                gate += 1
            yield list(c.row(start)), c.theta[start:gate].tolist(), c.num_inputs + start


def _bank(row: list[tuple[int, int]], thetas: list[int]) -> str:
    return f"{_list(thetas)} {_list([f'{n + 1} {w}' for n, w in row])}"


def _power_argument(operation: str) -> int | None:
    return {"rescale": 2, "select": 0}.get(operation)


def _section(file: IO[Any], name: str, lines: list[str]) -> None:
    print(f"{name} {len(lines)}", *lines, sep="\n", file=file)


def _ports(ports: Any, nodes: Any) -> Iterator[tuple[bool, list[int]]]:
    """(signed, nodes) of each element."""
    start = 0
    for port in ports:
        for _ in range(port.size):
            yield port.signed, list(nodes[start : start + port.width])
            start += port.width


def _port(signed: bool, nodes: list[int]) -> str:
    return f"{int(signed)} {_list([n + 1 for n in nodes])}"


def _list(items: Any, separator: str = " ") -> str:
    return separator.join([str(len(items)), *map(str, items)])


def _map(tree: TREE, leaf: Callable[[Any], Any]) -> Any:
    """Nested lists as tuples, with every leaf replaced, in order."""
    return tuple(_map(x, leaf) for x in tree) if type(tree) in (list, tuple) else leaf(tree)


def _map_known(tree: TREE, leaf: Callable[[_Known], Any]) -> Any:
    return leaf(tree) if isinstance(tree, _Known) else tuple(_map_known(x, leaf) for x in tree)


def _numbers(tree: TREE) -> Iterator[dict[str, Any]]:
    for x in tree:
        if type(x) is list:
            yield from _numbers(x)
        elif type(x) is dict:
            yield x


def _nodes(number: dict[str, Any]) -> list[int]:
    return [n for bit in number["bits"] for n in form_of(bit)[1]]


def _number(x: Any, hot: bool) -> str:
    """lo hi hot bits; a bit is its place, constant and row."""
    if type(x) is int:
        return f"{x} {x} {int(x > 0 and x.bit_count() == 1)} 1 {x} 1 0"
    bits, last = [], len(x["bits"]) - 1
    for j, bit in enumerate(x["bits"]):
        place = -(1 << j) if x["lo"] < 0 and j == last else 1 << j
        bits.append(f"{place} {words(form_of(bit))}")
    return f"{x['lo']} {x['hi']} {int(hot)} {_list(bits)}"


def _operation(name: str, parameters: dict[str, Any]) -> str:
    """Words of an operation with its parameters; a width that is null is 0, a function its table."""
    of = dict(parameters)
    if "width" in of:
        of["width"] = of["width"] or 0
    words: list[Any] = [
        of[key] for key in ("bias_shift", "plus", "shift", "width", "bits", "root", "size") if key in of
    ]
    if "coefficients" in of:
        words.append(_list(of["coefficients"]))
    if "function" in of:
        words += [of["function"]["lo"], _list(_values(of["function"]))]
    return " ".join(map(str, [name, *words]))


def _words_and_meaning(name: str, parameters: dict[str, Any]) -> tuple[str, str]:
    """The operation's words, and itself as the certificate has it: of two formulas of one table the claim names one."""
    return _operation(name, parameters), json.dumps([name, parameters], sort_keys=True)


def _values(function: dict[str, Any]) -> list[int]:
    """Of a function that is a table, or a polynomial and a shift (docs/circuits-format.md)."""
    if "table" in function:
        return list(function["table"])
    values, half = [], 1 << function["shift"] >> 1
    for x in range(function["lo"], function["hi"] + 1):
        total = 0
        for c in reversed(function["coefficients"]):
            total = total * (x - function["centre"]) + c
        values.append((total + half) >> function["shift"])
    return values
