"""Certificates of a program's distinct cells alone, for models whose circuit no memory holds (FlowAR-S at 256 px).

Counting by types meets every distinct cell; each is built once on inputs of its own, whose intervals are assumed. All
of them side by side are one circuit with one certificate. Beside the centred sum of a layer norm stands the cell of the
total that it reads, since it is right only with that.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.number import Number, constant, output_port
from flowgression.circuits.builder import Bit, Builder, canonical_form
from flowgression.circuits.certificate import Recorder, parameters_of, save, value_of
from flowgression.circuits.compile import Program, count_into
from flowgression.circuits.ir import Circuit, Port, Statistics
from flowgression.circuits.lower import cells
from flowgression.circuits.lower.counting import CountOps, Type, distinct_types, renamed
from flowgression.circuits.lower.gates import as_objects
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.proof.meaning import RESULTS
from flowgression.circuits.proof.wiring import ONE_HOT_ARGUMENT
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

    def _cell(self, cell: Callable[..., Any], key: Hashable, arguments: Sequence[Any]) -> tuple[Statistics, list[Type]]:
        assert isinstance(key, tuple)
        shape = renamed(arguments, {i: self._number(self.types[i][:3]) for i in distinct_types(arguments)})
        if (key, shape) not in self.distinct:
            self.distinct[key, shape] = DistinctCell(key, cell, self._kinds(arguments))
        return super()._cell(cell, key, arguments)


class _CellRecorder(Recorder):
    """Knows the numbers that `assume` tells, each of several fresh inputs."""

    def __init__(self) -> None:
        super().__init__()
        self.assumed: list[Any] = []
        self.one_hot: list[int] = []

    def inputs(self, count: int, level: int = 0) -> list[Bit]:
        return AddressBook.inputs(self, count, level)

    def assume(self, x: Number, one_hot: bool) -> None:
        if one_hot:
            self.one_hot.append(len(self.assumed))
        self.know(x.bits)
        places = [bit._replace(nodes=tuple(node.gate for node in bit.nodes)) for bit in x.bits]  # type: ignore[attr-defined]
        self.assumed.append(value_of(x.with_bits(tuple(places))))


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
    builder, recorder = Builder(templates=False), _CellRecorder()
    outputs = run_cells(builder, distinct, lambda x, one_hot: None)
    bits: list[Bit] = []
    ports = []
    for name, tensor in outputs.items():
        more, port = output_port(name, tensor)
        bits += more
        ports.append(port)
    description = {"program": f"distinct cells of {program.name}", "bits": precision.bits, "backend": backend}
    circuit = builder.finish(bits, [Port("bits", (builder.num_inputs,), 1, False)], ports, **description)
    recorded = run_cells(recorder, distinct, recorder.assume)
    model = describe_cells(distinct)
    assumed = {"assumed": recorder.assumed, "one_hot": recorder.one_hot}
    save(folder, circuit, lambda digest: recorder.certificate(model, recorded, digest) | assumed)
    return circuit, collector


def run_cells(
    builder: Builder, distinct: Sequence[DistinctCell], assume: Callable[[Number, bool], None]
) -> dict[str, np.ndarray]:
    """Every cell on fresh inputs; `assume` is told each argument and whether it is one-hot."""
    arguments = []
    for key, _, kinds in distinct:
        numbers: list[Any] = []
        for place, kind in enumerate(_assumed_kinds(key, kinds)):
            one_hot = ONE_HOT_ARGUMENT.get(key[0]) == place
            made = [_fresh(builder, k, assume, one_hot) for k in (kind if isinstance(kind, list) else [kind])]
            numbers.append(made if isinstance(kind, list) else made[0])
        arguments.append(numbers)
    outputs = {}
    for k, (item, numbers) in enumerate(zip(distinct, arguments, strict=True)):
        if item.key[0] == CENTRED:
            numbers.append(_total_beside(builder, numbers[0], item.kinds[1]))
        found = builder.call(item.key, cells.detached(item.cell), *numbers)
        results = found if type(found) is list else [found]
        outputs[f"cell{k}"] = as_objects(results, (len(results),))
    return outputs


def _assumed_kinds(key: tuple[Any, ...], kinds: list[Any]) -> list[Any]:
    """The arguments that are fresh inputs: all, but for the total of a centred sum, which must be that of its xs."""
    return kinds[:1] if key[0] == CENTRED else kinds


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


def _fresh(builder: Builder, kind: Type, assume: Callable[[Number, bool], None], one_hot: bool) -> Number:
    if kind.lo == kind.hi:
        return constant(kind.lo)
    nodes = [bit.nodes[0] for bit in builder.inputs(len(kind.levels))]
    bits = tuple(Bit(const, tuple(nodes[n] for n in local), weights) for const, local, weights in kind.form)
    number = Number(bits, kind.lo, kind.hi)
    assume(number, one_hot)
    return number


def describe_cells(distinct: Sequence[DistinctCell]) -> dict[str, Any]:
    """The claim: one operation on inputs of its own for every cell, as `proof.meaning.read_model` reads it."""
    given = [_assumed_kinds(item.key, item.kinds) for item in distinct]
    flat = [k for kinds in given for kind in kinds for k in (kind if isinstance(kind, list) else [kind])]
    size = sum(k.lo != k.hi for k in flat)
    model: dict[str, Any] = {"inputs": [["assumed", [size], 0, False]], "operations": [], "steps": [], "outputs": {}}
    used, values = 0, size

    def place(kind: Type) -> int:
        nonlocal used, values
        if kind.lo == kind.hi:
            model["steps"].append(kind.lo)
            values += 1
            return values - 1
        used += 1
        return used - 1

    def step(name: str, parameters: dict[str, Any], arguments: list[Any]) -> list[int]:
        nonlocal values
        model["steps"].append([len(model["operations"]), *arguments])
        model["operations"].append([name, parameters])
        values += RESULTS.get(name, 1)
        return list(range(values - RESULTS.get(name, 1), values))

    for k, (item, kinds) in enumerate(zip(distinct, given, strict=True)):
        arguments = [[place(each) for each in kind] if isinstance(kind, list) else place(kind) for kind in kinds]
        if item.key[0] == CENTRED:
            arguments += step("total", {"plus": 0}, arguments)
        model["outputs"][f"cell{k}"] = step(item.key[0], parameters_of(item.cell), arguments)
    return model
