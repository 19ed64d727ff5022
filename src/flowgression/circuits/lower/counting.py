"""The model on types: counts a circuit without building it.

A tensor holds type indices. A type is everything a cell's size and depth depend on: interval, which bits are
constant or share a node, and each node's level. Each operation builds its cell once for every distinct combination
of types and multiplies. Results have nodes of their own (cells.detached), so this gives exactly the figures of the
materialised circuit; the verification suite compares all ways of counting.
"""

import math
from collections import Counter
from collections.abc import Callable, Hashable, Sequence
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.number import Number, constant
from flowgression.circuits.builder import Bit, Builder, canonical_form
from flowgression.circuits.ir import Statistics
from flowgression.circuits.lower import cells
from flowgression.circuits.lower.gates import CellOps
from flowgression.circuits.lower.ops import Tensor
from flowgression.circuits.lower.precision import Precision

DEPTH_WINDOW = 24
"""More than any cell's depth. An input this far above the latest one cannot lie on a longest path through the cell,
so levels are only told apart within this window; without it every mixture of scales would need a cell of its own."""


class Type(NamedTuple):
    """lo, hi; bits as (const, local nodes, weights) or the constant itself; the level of each local node."""

    lo: int
    hi: int
    form: Any
    levels: tuple[int, ...]


class CountOps(CellOps):
    """Tensors are int32 arrays of type indices. `wired` False counts weights as inputs of the circuit.

    progress: called with the number of operations counted, after each.
    """

    def __init__(
        self,
        precision: Precision,
        backend: str = "table",
        wired: bool = True,
        progress: Callable[[int], None] | None = None,
    ):
        super().__init__(precision, backend)
        self.wired = wired
        self.progress = progress
        self.operations = 0
        self.types: list[Type] = []
        self.index: dict[Type, int] = {}
        self.num_inputs = 0
        self.total_statistics = Statistics()
        self.by_operation: Counter[str] = Counter()
        self.cells_built = 0
        self._numbers: dict[Hashable, int] = {}
        self._memo: dict[Hashable, tuple[Statistics, list[Type]]] = {}

    # ---- tensors of types ----

    def inputs(self, shape: tuple[int, ...], width: int, signed: bool = True) -> Tensor:
        """Fresh inputs of the circuit."""
        lo = -(1 << (width - 1)) if signed else 0
        form = tuple((0, (j,), (1,)) for j in range(width))
        self.num_inputs += int(np.prod(shape, dtype=np.int64)) * width
        return _everywhere(self._index(Type(lo, lo + (1 << width) - 1, form, (0,) * width)), shape)

    def constant(self, integers: np.ndarray) -> Tensor:
        if not self.wired:
            return self.inputs(np.shape(integers), self.precision.bits)
        values, inverse = np.unique(np.asarray(integers), return_inverse=True)
        found = [self._index(Type(int(v), int(v), int(v), ())) for v in values]
        return np.array(found, dtype=np.int32)[inverse].reshape(np.shape(integers))

    def parameter(self, values: np.ndarray, fraction: int | None = None) -> Tensor:
        if not self.wired:  # the values do not matter, and there may be millions
            return self.inputs(values.shape, self.precision.bits)
        return super().parameter(values, fraction)

    def _index(self, kind: Type) -> int:
        if kind not in self.index:
            self.index[kind] = len(self.types)
            self.types.append(kind)
        return self.index[kind]

    # ---- mapping ----

    def _map(
        self, cell: Callable[..., Any], key: Hashable, tensors: Sequence[Tensor], core: Sequence[int], results: int = 1
    ) -> Any:
        rows, classes = zip(*(_classes(t, c) for t, c in zip(tensors, core, strict=True)), strict=True)
        shape = np.broadcast_shapes(*(c.shape for c in classes))
        alike = all(len(found) == 1 for found in rows)  # the common case with weights as inputs
        if alike:
            combinations, counts = np.zeros(1, dtype=np.int64), np.array([math.prod(shape)])
        else:
            together = np.zeros((1,) * len(shape), dtype=np.int64)
            for found, ids in zip(rows, classes, strict=True):
                together = together * len(found) + ids
            combinations, inverse, counts = np.unique(together, return_inverse=True, return_counts=True)
        outputs = np.empty((results, len(combinations)), dtype=np.int32)
        for k, (code, count) in enumerate(zip(combinations.tolist(), counts.tolist(), strict=True)):
            arguments = []
            for found in reversed(rows):
                code, which = divmod(code, len(found))
                arguments.append(found[which])
            statistics, kinds = self._cell(cell, key, arguments[::-1])
            self._add(key, statistics, count)
            outputs[:, k] = [self._index(kind) for kind in kinds]
        self.operations += 1
        if self.progress is not None:
            self.progress(self.operations)
        tensors_out = tuple(_everywhere(row[0], shape) if alike else row[inverse].reshape(shape) for row in outputs)
        return tensors_out if results > 1 else tensors_out[0]

    def _cell(self, cell: Callable[..., Any], key: Hashable, arguments: Sequence[Any]) -> tuple[Statistics, list[Type]]:
        distinct = distinct_types(arguments)  # rows have thousands of numbers, of few types
        base = max((level for i in distinct for level in self.types[i].levels), default=0) - DEPTH_WINDOW
        signature = (key, renamed(arguments, {i: self._number(_relative(self.types[i], base)) for i in distinct}))
        if signature not in self._memo:
            self._memo[signature] = self._build(cell, self._kinds(arguments), base)
        statistics, outputs = self._memo[signature]
        moved = [kind._replace(levels=tuple(level + base for level in kind.levels)) for kind in outputs]
        depth = statistics.depth + base if statistics.gates else 0
        return Statistics(**{**statistics.to_dict(), "depth": depth}), moved

    def _kinds(self, arguments: Sequence[Any]) -> list[Any]:
        return [[self.types[i] for i in a] if isinstance(a, tuple) else self.types[a] for a in arguments]

    def _number(self, form: Hashable) -> int:
        """A small number for a form, which is faster to compare and to keep."""
        return self._numbers.setdefault(form, len(self._numbers))

    def _build(self, cell: Callable[..., Any], kinds: Sequence[Any], base: int) -> tuple[Statistics, list[Type]]:
        builder = Builder(materialise=False, templates=False)
        arguments = [
            [_instantiate(builder, k, base) for k in item]
            if isinstance(item, list)
            else _instantiate(builder, item, base)
            for item in kinds
        ]
        result = cells.detached(cell)(builder, *arguments)
        outputs = result if isinstance(result, list) else [result]
        self.cells_built += 1
        return builder.statistics(), [_type_of(builder, number) for number in outputs]

    def _add(self, key: Hashable, one: Statistics, count: int) -> None:
        old = self.total_statistics
        self.by_operation[str(key[0]) if isinstance(key, tuple) else str(key)] += count * one.gates
        self.total_statistics = Statistics(
            gates=old.gates + count * one.gates,
            wires=old.wires + count * one.wires,
            edges=old.edges + count * one.edges,
            depth=max(old.depth, one.depth),
            largest_weight=max(old.largest_weight, one.largest_weight),
            weight_sum=old.weight_sum + count * one.weight_sum,
        )


def _everywhere(index: int | np.integer[Any], shape: tuple[int, ...]) -> Tensor:
    """A tensor of one type, in no memory."""
    return np.broadcast_to(np.int32(index), shape)


def _classes(tensor: Tensor, core: int) -> tuple[list[Any], np.ndarray]:
    """Distinct elements (core 0) or rows along the last dimension (core 1), and which of them stands where."""
    if tensor.size and (not any(tensor.strides) or tensor.min() == tensor.max()):  # much faster than sorting
        first = int(tensor.flat[0])
        row = (first,) * tensor.shape[-1] if core else first
        return [row], np.broadcast_to(np.int64(0), tensor.shape[:-1] if core else tensor.shape)
    if not core:
        found, inverse = np.unique(tensor, return_inverse=True)
        return found.tolist(), inverse.reshape(tensor.shape)
    flat = np.ascontiguousarray(tensor).reshape(-1, tensor.shape[-1])
    found, inverse = np.unique(flat, axis=0, return_inverse=True)
    return [tuple(row) for row in found.tolist()], inverse.reshape(tensor.shape[:-1])


def _relative(kind: Type, base: int) -> Hashable:
    return (kind.lo, kind.hi, kind.form, tuple([max(level - base, 0) for level in kind.levels]))


def distinct_types(arguments: Sequence[Any]) -> set[int]:
    """All type indices in a cell's arguments, each an index or a row of them."""
    return set().union(*(a if isinstance(a, tuple) else (a,) for a in arguments))


def renamed(arguments: Sequence[Any], names: dict[int, int]) -> Hashable:
    """The arguments with other numbers for the type indices; a row of equal ones by its length and number."""

    def one(argument: Any) -> Hashable:
        if not isinstance(argument, tuple):
            return names[argument]
        found = {names[i] for i in set(argument)}
        return (len(argument), *found) if len(found) == 1 else (0, *map(names.__getitem__, argument))

    return tuple(map(one, arguments))


def _instantiate(builder: Builder, kind: Type, base: int) -> Number:
    if kind.lo == kind.hi:
        return constant(kind.lo)
    nodes = [builder.inputs(1, max(level - base, 0))[0].nodes[0] for level in kind.levels]
    bits = tuple(Bit(c, tuple(nodes[n] for n in local), weights) for c, local, weights in kind.form)
    return Number(bits, kind.lo, kind.hi)


def _type_of(builder: Builder, number: Number) -> Type:
    form, nodes = canonical_form(number)  # type: ignore[misc]
    if number.is_constant:
        return Type(number.lo, number.hi, form, ())
    return Type(number.lo, number.hi, form[2], tuple(builder.levels[node] for node in nodes))  # type: ignore[index]
