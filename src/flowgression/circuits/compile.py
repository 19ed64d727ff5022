"""The whole pipeline on one page.

    spec.py, dit_spec.py    sizes and real arrays   (frontend.py reads them from a trained model)
    lower/scalewise.py, dit.py  the models in terms of layers, written once
    lower/blocks.py         layers on named values, each with its format (fixed.py)
    lower/ops.py     the operations, interpreted on integers | on gates | on types | on real numbers
    lower/cells.py   one element of an operation, made of arithmetic/
    arithmetic/      sums, products, functions, division ... made of banks
    builder.py       banks of threshold gates -> ir.py, evaluated by simulate.py

A Program is a model or layer with its inputs and outputs named. `build` gives its circuit, `interpret` its values on
integers, `count` the circuit's size without building it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple, TypeVar

import numpy as np

from flowgression.circuits.arithmetic.number import Number, input_number, input_tensor, output_port
from flowgression.circuits.builder import Bit, Builder
from flowgression.circuits.ir import Circuit, Port, Statistics
from flowgression.circuits.lower.cells import APPLY
from flowgression.circuits.lower.counting import CountOps
from flowgression.circuits.lower.fixed import Fixed, fixed
from flowgression.circuits.lower.gates import GateOps
from flowgression.circuits.lower.integers import IntegerOps
from flowgression.circuits.lower.nominal import NominalOps
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.lower.precision import Precision
from flowgression.errors import InputError, did_you_mean

Progress = Callable[[int], None]
AnyCountOps = TypeVar("AnyCountOps", bound=CountOps)


class Input(NamedTuple):
    """Shape of an input tensor; `limit` None: p-bit signed numbers; else labels 0 .. limit - 1. `value`: the name of
    the value that it is, by which its format is known.
    """

    shape: tuple[int, ...]
    limit: int | None = None
    value: str = "x"

    def width(self, precision: Precision) -> int:
        return precision.bits if self.limit is None else max((self.limit - 1).bit_length(), 1)


@dataclass(frozen=True)
class Program:
    """body(ops, {name: value}) -> {name: value}: numbers come as `Fixed`, labels as bare tensors.

    about: texts `family`, `sizes` and `weights`, which name the model in a claim (claim.py).
    """

    name: str
    inputs: Mapping[str, Input]
    body: Callable[[Ops, dict[str, Any]], dict[str, Any]]
    about: Mapping[str, str] = field(default_factory=dict)

    def run(self, ops: Ops, tensors: Mapping[str, Tensor]) -> tuple[dict[str, Tensor], dict[str, int]]:
        """Bare tensors in and out, and the fraction bits of each result."""
        given: dict[str, Any] = {}
        for name, item in self.inputs.items():
            given[name] = tensors[name]
            if item.limit is None:
                given[name] = Fixed(tensors[name], ops.fraction(item.value))
                ops.record(item.value, tensors[name], given[name].fraction)
        found = {name: fixed(ops, value) for name, value in self.body(ops, given).items()}
        return {name: value.data for name, value in found.items()}, {n: value.fraction for n, value in found.items()}

    def quantise(self, precision: Precision, inputs: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Real inputs as the integers that the circuit reads; labels stay as they are."""
        result = {}
        for name, item in self.inputs.items():
            given = np.asarray(inputs[name])
            fraction = precision.fraction_of(item.value) if item.limit is None else 0
            result[name] = given if item.limit is not None else precision.quantise(given, fraction)
        return result


class Interpretation(NamedTuple):
    """Outputs int64 [samples, ...]; share of saturated results; the constants in the order of their use; the fraction
    bits of each output.
    """

    outputs: dict[str, np.ndarray]
    saturation: float
    constants: list[np.ndarray]
    fractions: dict[str, int]

    def real(self, name: str) -> np.ndarray:
        """The output of this name as float64."""
        return np.ldexp(self.outputs[name].astype(np.float64), -self.fractions[name])


def build(
    program: Program,
    precision: Precision,
    *,
    backend: str = "table",
    templates: bool = True,
    wired: bool = True,
    progress: Progress | None = None,
) -> Circuit:
    """Materialise the program's circuit.

    wired False makes the weights inputs of the circuit, in a port named `weights`; progress(gates) is called after
    every operation.
    """
    builder, outputs, ports, fractions = _trace(program, precision, Builder(True, templates), backend, wired, progress)
    bits: list[Bit] = []
    output_ports = []
    for name, tensor in outputs.items():
        tensor_bits, port = output_port(name, tensor)
        bits += tensor_bits
        output_ports.append(port)
    description: dict[str, Any] = {"program": program.name, "bits": precision.bits, "backend": backend}
    description["fraction"] = precision.f
    if precision.ranges is not None:
        given = {n: precision.fraction_of(item.value) for n, item in program.inputs.items() if item.limit is None}
        description |= {"fraction": None, "fractions": given | fractions, "ranges": dict(precision.ranges)}
    return builder.finish(bits, ports, output_ports, **description)


def trace(
    program: Program,
    precision: Precision,
    builder: Builder,
    backend: str = "table",
    wired: bool = True,
    progress: Progress | None = None,
) -> tuple[Builder, dict[str, Tensor], list[Port]]:
    """Run the program on gates; the builder decides whether they are stored. Returns it with outputs and input
    ports.
    """
    return _trace(program, precision, builder, backend, wired, progress)[:3]


def _trace(
    program: Program, precision: Precision, builder: Builder, backend: str, wired: bool, progress: Progress | None
) -> tuple[Builder, dict[str, Tensor], list[Port], dict[str, int]]:
    check_backend(backend)
    tensors, ports = {}, []
    for name, item in program.inputs.items():
        tensors[name], port = input_tensor(builder, name, item.shape, item.width(precision), item.limit is None)
        ports.append(port)
    pool = None
    if not wired:
        amount = sum(c.size for c in interpret(program, precision, sample_inputs(program, precision, 1)).constants)
        numbers: list[Number] = [input_number(builder, precision.bits) for _ in range(amount)]
        ports += [Port("weights", (amount,), precision.bits, True)] if amount else []
        pool = iter(numbers)
    outputs, fractions = program.run(GateOps(builder, precision, backend, pool, progress), tensors)
    return builder, outputs, ports, fractions


def check_backend(name: str) -> None:
    """Raise InputError unless there is such a back end for functions of one number."""
    if name not in APPLY:
        raise InputError(f"backend is {name!r}; {did_you_mean(name, APPLY)}")


def interpret(program: Program, precision: Precision, inputs: Mapping[str, np.ndarray]) -> Interpretation:
    """Run the program on integers, {name: int [samples, *shape]}."""
    for name, item in program.inputs.items():
        if name not in inputs or inputs[name].shape[1:] != item.shape:
            found = inputs[name].shape[1:] if name in inputs else "missing"
            raise InputError(f"input {name} is {found} per sample, expected {item.shape}.")
    ops = IntegerOps(precision)
    given = {name: np.asarray(inputs[name], dtype=np.int64) for name in program.inputs}
    outputs, fractions = program.run(ops, given)
    return Interpretation(outputs, ops.saturation, ops.constants, fractions)


def count(
    program: Program,
    precision: Precision,
    *,
    backend: str = "table",
    wired: bool = True,
    progress: Progress | None = None,
) -> CountOps:
    """Gates, wires and depth of what `build` would give, from one cell per distinct combination of types.

    progress(operations) is called after every operation; `outline` tells how many there are.
    """
    check_backend(backend)
    return count_into(CountOps(precision, backend, wired, progress), program, precision)


def count_into(ops: AnyCountOps, program: Program, precision: Precision) -> AnyCountOps:
    """Run the program on a counting interpreter, and return it."""
    tensors = {
        name: ops.inputs(item.shape, item.width(precision), item.limit is None) for name, item in program.inputs.items()
    }
    program.run(ops, tensors)
    return ops


def count_gate_by_gate(
    program: Program, precision: Precision, *, backend: str = "table", templates: bool = True
) -> Statistics:
    """The same figures from the builder with materialisation off."""
    return trace(program, precision, Builder(False, templates), backend)[0].statistics()


class Outline(NamedTuple):
    """Nominal depth (a bound on the depth of what `build` gives, the same for all sizes) and number of operations."""

    depth: int
    operations: int


def outline(program: Program, precision: Precision, *, backend: str = "table") -> Outline:
    """What is known of a program's circuit from its operations alone."""
    check_backend(backend)
    ops = NominalOps(precision, backend)
    program.run(ops, {name: np.broadcast_to(np.int64(0), item.shape) for name, item in program.inputs.items()})
    return Outline(ops.depth, ops.operations)


def sample_inputs(
    program: Program, precision: Precision, samples: int, seed: int = 0, spread: float = 1.0
) -> dict[str, np.ndarray]:
    """Random inputs: normal with the given real standard deviation, quantised; labels uniform."""
    generator = np.random.default_rng(seed)
    values = {}
    for name, item in program.inputs.items():
        shape = (samples, *item.shape)
        if item.limit is None:
            fraction = precision.fraction_of(item.value)
            values[name] = precision.quantise(spread * generator.standard_normal(shape), fraction)
        else:
            values[name] = generator.integers(0, item.limit, shape)
    return values
