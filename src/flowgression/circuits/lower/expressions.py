"""The model on expressions: what a circuit is claimed to compute, as data that needs no compiler to be read.

Written on tensors of value numbers from the definitions in ops.py, apart from `gates.py`, so that a slip in how the
gates' interpreter maps cells over tensors shows as a difference.
"""

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Any

import numpy as np

from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.lower.precision import Precision

Arguments = Sequence[Any]


def describe_function(function: Function) -> dict[str, Any]:
    """What `proof.meaning.function` reads: a table where there is no polynomial."""
    if function.table is not None:
        return {"lo": function.lo, "hi": function.hi, "table": function.table.tolist()}
    polynomial = {"centre": function.centre, "coefficients": list(function.coefficients), "shift": function.shift}
    return {"lo": function.lo, "hi": function.hi, **polynomial}


class ExpressionOps(Ops):
    """Tensors are int64 arrays of value numbers: the inputs' elements first, then every step's results.

    num_inputs: elements of all inputs, weights included.
    weights: None wires constants in; an iterator of value numbers takes one input for each instead.
    """

    def __init__(self, precision: Precision, num_inputs: int, weights: Iterator[int] | None = None):
        super().__init__(precision)
        self.weights = weights
        self.count = num_inputs
        self.operations: list[list[Any]] = []
        self.steps: list[Any] = []
        self._numbers: dict[Any, int] = {}
        self._names: dict[str, int] = {}

    def constant(self, integers: np.ndarray) -> Tensor:
        flat = np.asarray(integers).reshape(-1)
        if self.weights is not None:
            found = list(islice(self.weights, flat.size))
        else:
            found = [self._value(int(v), int(v), 1) for v in flat]
        return np.array(found, dtype=np.int64).reshape(np.shape(integers))

    def _value(self, key: Any, step: Any, results: int) -> int:
        """The number of a step's first result; equal steps are made once."""
        if key not in self._numbers:
            self._numbers[key] = self.count
            self.steps.append(step)
            self.count += results
        return self._numbers[key]

    def _step(self, name: str, parameters: dict[str, Any], arguments: Arguments, results: int = 1) -> int:
        words = str((name, parameters))
        if words not in self._names:
            self._names[words] = len(self.operations)
            self.operations.append([name, parameters])
        step = [self._names[words], *arguments]
        return self._value(str(step), step, results)

    def _each(self, name: str, parameters: dict[str, Any], *tensors: Tensor, results: int = 1) -> Tensor:
        """One step for every element of the broadcast tensors."""
        arrays = np.broadcast_arrays(*tensors)
        rows = zip(*(array.reshape(-1).tolist() for array in arrays), strict=True)
        found = [self._step(name, parameters, row, results) for row in rows]
        return np.array(found, dtype=np.int64).reshape(arrays[0].shape)

    def _rows(self, name: str, parameters: dict[str, Any], x: Tensor, *rest: Tensor) -> Tensor:
        """One step for every row along the last dimension, with an element of each further tensor."""
        found = np.empty(x.shape[:-1], dtype=np.int64)
        for i in np.ndindex(found.shape):
            found[i] = self._step(name, parameters, [x[i].tolist(), *(int(each[i]) for each in rest)])
        return found

    def _width(self, exact: bool = False) -> int | None:
        return None if exact else self.precision.bits

    def matmul(
        self, x: Tensor, y: Tensor, bias: Tensor | None = None, bias_shift: int = 0, shift: int = 0, exact: bool = False
    ) -> Tensor:
        lead = np.broadcast_shapes(x.shape[:-2], y.shape[:-2])
        x, y = np.broadcast_to(x, (*lead, *x.shape[-2:])), np.broadcast_to(y, (*lead, *y.shape[-2:]))
        found = np.empty((*lead, x.shape[-2], y.shape[-2]), dtype=np.int64)
        biases = None if bias is None else np.broadcast_to(bias[..., None, :], found.shape)
        parameters = {"bias_shift": bias_shift, "shift": shift, "width": self._width(exact)}
        for *outer, m, n in np.ndindex(found.shape):
            arguments = [x[(*outer, m)].tolist(), y[(*outer, n)].tolist()]
            arguments += [] if biases is None else [int(biases[(*outer, m, n)])]
            found[(*outer, m, n)] = self._step("dot", parameters, arguments)
        return found

    def fused(self, x: Tensor, y: Tensor, z: Tensor, shift: int | None = None) -> Tensor:
        shift = self.precision.f if shift is None else shift
        return self._each("fused", {"shift": shift, "width": self._width()}, x, y, z)

    def mix(self, coefficients: tuple[int, ...], *tensors: Tensor, shift: int = 0, exact: bool = False) -> Tensor:
        parameters = {"coefficients": list(coefficients), "shift": shift, "width": self._width(exact)}
        return self._each("mix", parameters, *tensors)

    def total(self, x: Tensor, plus: int = 0) -> Tensor:
        return self._rows("total", {"plus": plus}, x)

    def square_sum(self, x: Tensor, plus: int = 1, shift: int = 0, exact: bool = True) -> Tensor:
        return self._rows("square_sum", {"plus": plus, "shift": shift, "width": self._width(exact)}, x)

    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        return self._rows("centred_square_sum", {}, x, total)

    def ceiling(self, x: Tensor, shift: int) -> Tensor:
        return self._rows("ceiling", {"shift": shift}, x)

    def at_least_one(self, x: Tensor) -> Tensor:
        return self._each("at_least_one", {}, x)

    def apply(self, x: Tensor, function: Function) -> Tensor:
        return self._each("apply", {"function": describe_function(function)}, x)

    def inverse(self, x: Tensor, function: Function, bits: int, root: int) -> tuple[Tensor, Tensor]:
        parameters = {"function": describe_function(function), "bits": bits, "root": root}
        first = self._each("inverse", parameters, x, results=2)
        return first, first + 1

    def rescale(self, x: Tensor, factor: Tensor, power: Tensor, shift: int) -> Tensor:
        return self._each("rescale", {"shift": shift, "width": self._width()}, x, factor, power)

    def lookup(self, index: Tensor, table: np.ndarray) -> Tensor:
        entries = self.constant(np.moveaxis(table, 0, -1))
        powers = self._each("one_hot", {"size": len(table)}, index)
        powers = np.broadcast_to(powers, entries.shape[:-1])
        found = np.empty(powers.shape, dtype=np.int64)
        for i in np.ndindex(found.shape):
            found[i] = self._step("select", {}, [int(powers[i]), entries[i].tolist()])
        return found


def express(program: Any, inputs: Sequence[tuple[str, tuple[int, ...], int, bool]], precision: Precision) -> Any:
    """The program as `proof.model.read_model` reads it, but for its name; inputs (name, shape, width, signed), one
    named `weights` being taken for the constants.
    """
    tensors: dict[str, Tensor] = {}
    start = 0
    for name, shape, _, _ in inputs:
        size = int(np.prod(shape, dtype=np.int64))
        tensors[name] = np.arange(start, start + size).reshape(shape)
        start += size
    weights = tensors.pop("weights", None)
    ops = ExpressionOps(precision, start, None if weights is None else iter(weights.tolist()))
    found = program.run(ops, tensors)[0].items()
    outputs = [[name, list(tensor.shape), tensor.reshape(-1).tolist()] for name, tensor in found]
    declared = [[name, list(shape), width, signed] for name, shape, width, signed in inputs]
    return {"inputs": declared, "operations": ops.operations, "steps": ops.steps, "outputs": outputs}
