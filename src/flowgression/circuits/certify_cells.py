"""Certificates of a program's distinct cells alone, for models whose circuit no memory holds (FlowAR-S at 256 px).

Counting by types meets every distinct cell; each is built once on inputs of its own, every one of them like an input of
the model or a result of an earlier cell: with its interval, its bits and, for powers, its one bit. All of them side by
side are one circuit with one certificate. Beside the centred sum of a layer norm stands the cell of the total that it
reads, since it is right only with that.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.number import Number, constant, input_number, output_port
from flowgression.circuits.builder import Bit, Builder, canonical_form
from flowgression.circuits.certify import Recorder, numbers_in, parameters_of, save
from flowgression.circuits.claim import name_of
from flowgression.circuits.compile import Program, count_into
from flowgression.circuits.ir import Circuit, Port, Statistics
from flowgression.circuits.lower import cells
from flowgression.circuits.lower.counting import CountOps, Type, distinct_types, renamed
from flowgression.circuits.lower.gates import as_objects
from flowgression.circuits.lower.ops import Tensor
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.proof.meaning import ONE_HOT_ARGUMENT, ONE_HOT_RESULTS
from flowgression.circuits.proof.model import FRESH
from flowgression.circuits.uniformity import AddressBook
from flowgression.errors import InputError

CENTRED = "centred_square_sum"
"""The operation whose last argument is the total of its first."""


class DistinctCell(NamedTuple):
    """A cell and the types of its arguments, levels apart."""

    key: tuple[Any, ...]
    cell: Callable[..., Any]
    kinds: list[Any]


class Collector(CountOps):
    """Counts, and keeps every distinct cell it meets."""

    def __init__(self, *arguments: Any, **options: Any):
        super().__init__(*arguments, **options)
        self.distinct: dict[Hashable, DistinctCell] = {}
        self.ports: list[Port] = []

    def inputs(self, shape: tuple[int, ...], width: int, signed: bool = True) -> Tensor:
        port = Port(f"{'signed' if signed else 'unsigned'}{width}", (), width, signed)
        if port not in self.ports:
            self.ports.append(port)
        return super().inputs(shape, width, signed)

    def _cell(self, cell: Callable[..., Any], key: Hashable, arguments: Sequence[Any]) -> tuple[Statistics, list[Type]]:
        assert isinstance(key, tuple)
        shape = renamed(arguments, {i: self._number(self.types[i][:3]) for i in distinct_types(arguments)})
        if (key, shape) not in self.distinct:
            self.distinct[key, shape] = DistinctCell(key, cell, self._kinds(arguments))
        return super()._cell(cell, key, arguments)


class _Plan(NamedTuple):
    """All cells in one builder: the model's kinds of inputs, and every cell with its own arguments.

    Arguments stand in lists as in `DistinctCell.kinds`; the total of a centred sum is none of them.
    """

    inputs: list[Number]
    arguments: list[list[Any]]


def certify_cells(
    program: Program,
    precision: Precision,
    folder: str | Path,
    *,
    backend: str = "table",
    wired: bool = False,
    progress: Callable[[int], None] | None = None,
) -> tuple[Circuit, CountOps]:
    """Count the program; write its distinct cells, side by side, with their certificate into the folder."""
    collector = count_into(Collector(precision, backend, wired, progress), program, precision)
    distinct = list(collector.distinct.values())
    builder = Builder(templates=False)
    plan = _lay_out(builder, collector.ports, distinct)
    fresh = builder.num_inputs - sum(x.width for x in plan.inputs)
    bits: list[Bit] = []
    ports = []
    for name, tensor in _run(builder, distinct, plan, lambda numbers: None).items():
        more, port = output_port(name, tensor)
        bits += more
        ports.append(port)
    description = {"program": f"distinct cells of {program.name}", "bits": precision.bits, "backend": backend}
    given = [*collector.ports, Port(FRESH, (fresh,), 1, False)] if fresh else collector.ports
    circuit = builder.finish(bits, given, ports, **description)
    save(folder, circuit, _certificate(collector, name_of(program, precision, wired)))
    return circuit, collector


def claim_of_cells(
    program: Program, precision: Precision, *, backend: str = "table", wired: bool = False
) -> dict[str, Any]:
    """The claim that `certify_cells` writes, from counting alone."""
    collector = count_into(Collector(precision, backend, wired), program, precision)
    return dict(_certificate(collector, name_of(program, precision, wired))["model"])


def _certificate(collector: Collector, name: dict[str, str]) -> dict[str, Any]:
    distinct = list(collector.distinct.values())
    recorder = _CellRecorder()
    plan = _lay_out(recorder, collector.ports, distinct)
    for x in plan.inputs:
        recorder.tell(x, one_hot=False)
    outputs = _run(recorder, distinct, plan, recorder.fresh)
    named = name | {"family": f"distinct cells of {name['family']}"}
    inputs = [[port.name, list(port.shape), port.width, port.signed] for port in collector.ports]
    listed = [[label, list(tensor.shape), [recorder.value_of(x) for x in tensor]] for label, tensor in outputs.items()]
    model = {"name": named, "inputs": inputs, "operations": recorder.operations, "steps": recorder.steps}
    return recorder.certificate(model | {"outputs": listed}, outputs)


def _lay_out(builder: Builder, ports: Sequence[Port], distinct: Sequence[DistinctCell]) -> _Plan:
    """All inputs, before any gate."""
    inputs = [input_number(builder, port.width, port.signed) for port in ports]
    arguments = [
        [[_fresh(builder, k) for k in kind] if isinstance(kind, list) else _fresh(builder, kind) for kind in kinds]
        for kinds in (item.kinds[:1] if item.key[0] == CENTRED else item.kinds for item in distinct)
    ]
    return _Plan(inputs, arguments)


def _fresh(builder: Builder, kind: Type) -> Number:
    if kind.lo == kind.hi:
        return constant(kind.lo)
    nodes = [bit.nodes[0] for bit in builder.inputs(len(kind.levels))]
    bits = tuple(Bit(const, tuple(nodes[n] for n in local), weights) for const, local, weights in kind.form)
    return Number(bits, kind.lo, kind.hi)


def _run(
    builder: Builder, distinct: Sequence[DistinctCell], plan: _Plan, fresh: Callable[[list[tuple[Number, bool]]], None]
) -> dict[str, np.ndarray]:
    """Every cell on its arguments; `fresh` is told them before, and which must be one-hot."""
    outputs = {}
    for k, (item, given) in enumerate(zip(distinct, plan.arguments, strict=True)):
        name, numbers = item.key[0], list(given)
        told = [
            (x, ONE_HOT_ARGUMENT.get(name) == place) for place, each in enumerate(numbers) for x in numbers_in(each)
        ]
        fresh(told)
        if name == CENTRED:
            numbers.append(_total_beside(builder, numbers[0], item.kinds[1]))
        found = builder.call(item.key, cells.detached(item.cell), *numbers)
        results = found if type(found) is list else [found]
        outputs[f"cell{k}"] = as_objects(results, (len(results),))
    return outputs


def _total_beside(builder: Builder, xs: list[Number], kind: Type) -> Number:
    """The total of the xs by a cell of its own, which must have the type that the model's total has."""
    total = builder.call(("total", 0), cells.detached(partial(cells.total_cell, plus=0)), xs)
    form, _ = canonical_form(total)
    if (total.lo, total.hi, form if total.is_constant else form[2]) != kind[:3]:  # type: ignore[index]
        raise InputError(
            f"a centred sum of {len(xs)} numbers is given a total of another type than that of the same numbers, "
            "which a proof by cells needs; prove the whole model instead: circuit prove without --cells"
        )
    return total


class _CellRecorder(Recorder):
    """Writes the claim beside the certificate: every argument is like an earlier number of its kind."""

    def __init__(self) -> None:
        super().__init__()
        self.operations: list[Any] = []
        self.steps: list[Any] = []
        self._values = 0
        self._value_of_bits: dict[tuple[Bit, ...], int] = {}
        self._first: dict[Hashable, tuple[int, int]] = {}

    def inputs(self, count: int, level: int = 0) -> list[Bit]:
        return AddressBook.inputs(self, count, level)

    def tell(self, x: Number, one_hot: bool) -> None:
        """The next number, which is the next value too."""
        self.know(x.bits)
        self._number_of_value(x, one_hot)

    def _number_of_value(self, x: Number, one_hot: bool) -> None:
        self._value_of_bits[x.bits] = self._values
        self._first.setdefault((canonical_form(x)[0], one_hot), (self.number_of(x), self._values))
        self._values += 1

    def value_of(self, x: Number) -> int:
        """The number of its value in the claim; constants become steps."""
        if x.is_constant:
            self.steps.append(x.lo)
            self._values += 1
            return self._values - 1
        return self._value_of_bits[x.bits]

    def fresh(self, numbers: Sequence[tuple[Number, bool]]) -> None:
        """Arguments of the next call."""
        for x, one_hot in numbers:
            if x.is_constant:
                continue
            number, value = self._first[canonical_form(x)[0], one_hot]
            self.called.append({"like": number})
            self.steps.append({"like": value, "lo": x.lo, "hi": x.hi, "one_hot": one_hot})
            self.tell(x, one_hot)

    def call(self, key: Hashable, cell: Callable[..., Any], *arguments: Any) -> Any:
        assert isinstance(key, tuple)
        given = [
            [self.value_of(x) for x in each] if isinstance(each, list) else self.value_of(each) for each in arguments
        ]
        found = super().call(key, cell, *arguments)
        self.steps.append([len(self.operations), *given])
        self.operations.append([key[0], parameters_of(cell)])
        for k, x in enumerate(found if type(found) is list else [found]):
            if x.is_constant:
                self._values += 1
            else:
                self._number_of_value(x, (key[0], k) in ONE_HOT_RESULTS)
        return found
