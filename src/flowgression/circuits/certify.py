"""Certificates: what the compiler tells the checker of `proof/`, so that a circuit is proved right for every input.

The program runs on a `Recorder`, which builds each distinct cell once, alone, and keeps the intermediate bits that its
arithmetic notes; the model is the same program on expressions. Nothing of this is trusted: see `proof/checker.py`.
"""

import json
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.arithmetic.number import Number
from flowgression.circuits.builder import Bit, Builder, canonical_form, map_bits
from flowgression.circuits.claim import claim
from flowgression.circuits.compile import Program, build, trace
from flowgression.circuits.ir import Circuit
from flowgression.circuits.lower.expressions import describe_function
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.proof.certificate import SUMS
from flowgression.circuits.proof.checker import CERTIFICATE, CIRCUIT
from flowgression.circuits.proof.files import CERTIFICATE_FORMAT
from flowgression.circuits.uniformity import AddressBook
from flowgression.files import atomic_write


class _NotingBuilder(Builder):
    """Keeps what its cell notes."""

    def __init__(self, **options: Any):
        super().__init__(**options)
        self.notes: dict[str, list[Any]] = {}

    def note(self, name: str, value: Any) -> None:
        self.notes.setdefault(name, []).append(value)


class Recorder(AddressBook):
    """An address book that describes forms and calls as a certificate does, numbers being counted as they come."""

    form_builder = _NotingBuilder

    def __init__(self) -> None:
        super().__init__()
        self.forms: list[dict[str, Any]] = []
        self.called: list[Any] = []
        self._form_number: dict[int, int] = {}
        self._number: dict[tuple[Bit, ...], int] = {}
        self.known = 0

    def know(self, bits: tuple[Bit, ...]) -> None:
        """The next number."""
        self._number[bits] = self.known
        self.known += 1

    def inputs(self, count: int, level: int = 0) -> list[Bit]:
        bits = super().inputs(count, level)
        self.know(tuple(bits))
        return bits

    def call(self, key: Hashable, cell: Callable[..., Any], *arguments: Any) -> Any:
        found = super().call(key, cell, *arguments)
        form, outputs = self.calls[-1].form, self.calls[-1].outputs
        assert isinstance(form, _NotingBuilder)
        if id(form) not in self._form_number:
            self._form_number[id(form)] = len(self.forms)
            self.forms.append(_describe(key, cell, arguments, outputs, form))
        numbers = [self.number_of(x) for x in numbers_in(arguments) if not x.is_constant]
        self.called.append([self._form_number[id(form)], *numbers])
        for x in numbers_in(found):
            if not x.is_constant:
                self.know(x.bits)
        return found

    def number_of(self, x: Number) -> int:
        return self._number[x.bits]

    def certificate(self, model: dict[str, Any], outputs: dict[str, np.ndarray]) -> dict[str, Any]:
        """Everything, for a circuit whose output tensors of Numbers these are."""
        numbers = [
            [[x.lo] if x.is_constant else self.number_of(x) for x in tensor.reshape(-1)] for tensor in outputs.values()
        ]
        fixed = {"format": CERTIFICATE_FORMAT, "model": model}
        return fixed | {"cells": self.forms, "calls": self.called, "outputs": numbers}


def numbers_in(tree: Any) -> Iterator[Number]:
    if type(tree) in (list, tuple):
        for item in tree:
            yield from numbers_in(item)
    else:
        yield tree


def _describe(
    key: Hashable, cell: Callable[..., Any], arguments: Any, outputs: Any, form: _NotingBuilder
) -> dict[str, Any]:
    """A form of a certificate: operation, parameters, arguments and results on nodes of its own, notes."""
    assert isinstance(key, tuple)
    local = {node: k for k, node in enumerate(canonical_form(arguments)[1])}
    own = map_bits(list(arguments), lambda bit: bit._replace(nodes=tuple(local[n] for n in bit.nodes)))
    described = {
        "operation": key[0],
        "parameters": parameters_of(cell),
        "arguments": _tree(own),
        "results": _tree(outputs if type(outputs) is list else [outputs]),
        "gates": form.statistics().gates,
    }
    if key[0] in SUMS and not all(type(x) is int for x in described["results"]):
        (columns,), (total,) = form.notes["columns"], form.notes["sum"]
        stages = [[[j, w, _bits(digits)] for j, w, digits in stage] for stage in form.notes.get("stage", ())]
        described |= {"columns": [_bits(column) for column in columns], "stages": stages, "sum": _bits(total)}
    if "mantissa" in form.notes:
        described["mantissa"] = _bits(form.notes["mantissa"][0].bits)
    return described


def parameters_of(cell: Callable[..., Any]) -> dict[str, Any]:
    """Parameters of a cell's formula; the back end is no part of it."""
    inner = getattr(cell, "__wrapped__", cell)
    keywords = inner.keywords if isinstance(inner, partial) else {}
    return {name: _parameter(value) for name, value in keywords.items() if name != "backend"}


def _parameter(value: Any) -> Any:
    if isinstance(value, Function):
        return describe_function(value)
    return list(value) if isinstance(value, tuple) else value


def _tree(tree: Any) -> Any:
    return [_tree(item) for item in tree] if type(tree) in (list, tuple) else value_of(tree)


def value_of(x: Number) -> Any:
    return int(x.lo) if x.is_constant else {"lo": x.lo, "hi": x.hi, "bits": _bits(x.bits)}


def _bits(bits: Any) -> list[Any]:
    """As `proof.netlist.read_bit` reads them."""
    return [_bit(bit) for bit in bits]


def _bit(bit: Bit) -> Any:
    if (bit.const, bit.weights) == (0, (1,)):
        return bit.nodes[0]
    if (bit.const, bit.weights) == (1, (-1,)):
        return -1 - bit.nodes[0]
    return [bit.const, *(value for pair in zip(bit.nodes, bit.weights, strict=True) for value in pair)]


def certify(
    program: Program, precision: Precision, folder: str | Path, *, backend: str = "table", wired: bool = True
) -> Circuit:
    """Build the program's circuit; write it with its certificate into the folder, for `proof.checker` to judge."""
    circuit = build(program, precision, backend=backend, wired=wired)
    recorder = Recorder()
    _, outputs, _ = trace(program, precision, recorder, backend, wired)
    save(folder, circuit, recorder.certificate(claim(program, precision, wired), outputs))
    return circuit


def save(folder: str | Path, circuit: Circuit, certificate: dict[str, Any]) -> None:
    """Write both files."""
    Path(folder).mkdir(parents=True, exist_ok=True)
    circuit.save(Path(folder) / CIRCUIT)
    with atomic_write(Path(folder) / CERTIFICATE, "w") as file:
        json.dump(certificate, file, separators=(",", ":"))
