"""The model on gates: every operation loops over elements and calls its cell once for each."""

import itertools
from abc import abstractmethod
from collections.abc import Callable, Hashable, Iterator, Sequence
from functools import partial
from typing import Any

import numpy as np

from flowgression.circuits.arithmetic.functions import Function
from flowgression.circuits.arithmetic.number import Number, constant
from flowgression.circuits.builder import Builder
from flowgression.circuits.lower import cells
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.lower.precision import Precision


class CellOps(Ops):
    """Every operation as a cell mapped over tensors; what mapping means is left to `_map`."""

    def __init__(self, precision: Precision, backend: str = "table"):
        super().__init__(precision)
        self.backend = backend

    @abstractmethod
    def _map(
        self, cell: Callable[..., Any], key: Hashable, tensors: Sequence[Tensor], core: Sequence[int], results: int = 1
    ) -> Any:
        """Call cell(builder, *arguments) for every element of the broadcast leading dimensions.

        core[i] is 1 if tensor i's last dimension goes into one call as a row, else 0. Returns `results` tensors
        (one: itself).
        """

    def _width(self, exact: bool) -> int | None:
        return None if exact else self.precision.bits

    def matmul(
        self, x: Tensor, y: Tensor, bias: Tensor | None = None, bias_shift: int = 0, shift: int = 0, exact: bool = False
    ) -> Tensor:
        width = self._width(exact)
        cell = partial(cells.dot_cell, bias_shift=bias_shift, shift=shift, width=width)
        tensors = [x[..., :, None, :], y[..., None, :, :]] + ([] if bias is None else [bias[..., None, :]])
        return self._map(cell, ("dot", bias_shift, shift, width), tensors, (1, 1, 0)[: len(tensors)])

    def fused(self, x: Tensor, y: Tensor, z: Tensor, shift: int | None = None) -> Tensor:
        shift = self.precision.f if shift is None else shift
        cell = partial(cells.fused_cell, shift=shift, width=self.precision.bits)
        return self._map(cell, ("fused", shift), (x, y, z), (0, 0, 0))

    def mix(self, coefficients: tuple[int, ...], *tensors: Tensor, shift: int = 0, exact: bool = False) -> Tensor:
        width = self._width(exact)
        cell = partial(cells.mix_cell, coefficients=coefficients, shift=shift, width=width)
        return self._map(cell, ("mix", coefficients, shift, width), tensors, (0,) * len(tensors))

    def total(self, x: Tensor, plus: int = 0) -> Tensor:
        return self._map(partial(cells.total_cell, plus=plus), ("total", plus), (x,), (1,))

    def square_sum(self, x: Tensor, plus: int = 1, shift: int = 0, exact: bool = True) -> Tensor:
        width = self._width(exact)
        cell = partial(cells.square_sum_cell, plus=plus, shift=shift, width=width)
        return self._map(cell, ("square_sum", plus, shift, width), (x,), (1,))

    def centred_square_sum(self, x: Tensor, total: Tensor) -> Tensor:
        return self._map(cells.centred_square_sum_cell, ("centred_square_sum",), (x, total), (1, 0))

    def ceiling(self, x: Tensor, shift: int) -> Tensor:
        return self._map(partial(cells.ceiling_cell, shift=shift), ("ceiling", shift), (x,), (1,))

    def at_least_one(self, x: Tensor) -> Tensor:
        return self._map(cells.at_least_one_cell, ("at_least_one",), (x,), (0,))

    def apply(self, x: Tensor, function: Function) -> Tensor:
        cell = partial(cells.apply_cell, function=function, backend=self.backend)
        return self._map(cell, ("apply", function.key), (x,), (0,))

    def inverse(self, x: Tensor, function: Function, bits: int, root: int) -> tuple[Tensor, Tensor]:
        cell = partial(cells.inverse_cell, function=function, bits=bits, root=root, backend=self.backend)
        return self._map(cell, ("inverse", function.key, bits, root), (x,), (0,), results=2)

    def rescale(self, x: Tensor, factor: Tensor, power: Tensor, shift: int) -> Tensor:
        cell = partial(cells.rescale_cell, shift=shift, width=self.precision.bits)
        return self._map(cell, ("rescale", shift), (x, factor, power), (0, 0, 0))

    def lookup(self, index: Tensor, table: np.ndarray) -> Tensor:
        one_hot = self._map(partial(cells.one_hot_cell, size=len(table)), ("one_hot", len(table)), (index,), (0,))
        return self._map(cells.select_cell, ("select",), (one_hot, self.constant(np.moveaxis(table, 0, -1))), (0, 1))


class GateOps(CellOps):
    """Tensors are object arrays of Numbers whose bits belong to one builder.

    weights: None wires constants into the gates; an iterator of Numbers takes one input of the circuit for each
    instead.
    progress: called with the number of gates after every operation.
    """

    def __init__(
        self,
        builder: Builder,
        precision: Precision,
        backend: str = "table",
        weights: Iterator[Number] | None = None,
        progress: Callable[[int], None] | None = None,
    ):
        super().__init__(precision, backend)
        self.builder = builder
        self.weights = weights
        self.progress = progress

    def constant(self, integers: np.ndarray) -> Tensor:
        if self.weights is not None:
            return as_objects(list(itertools.islice(self.weights, np.size(integers))), np.shape(integers))
        return as_objects([constant(int(v)) for v in np.asarray(integers).reshape(-1)], np.shape(integers))

    def _map(
        self, cell: Callable[..., Any], key: Hashable, tensors: Sequence[Tensor], core: Sequence[int], results: int = 1
    ) -> Any:
        loops = [t.shape[: t.ndim - c] for t, c in zip(tensors, core, strict=True)]
        shape = np.broadcast_shapes(*loops)
        flat = [_rows(t, c, shape) for t, c in zip(tensors, core, strict=True)]
        found = [self.builder.call(key, cells.detached(cell), *arguments) for arguments in zip(*flat, strict=True)]
        if self.progress is not None:
            self.progress(len(self.builder.levels) - self.builder.num_inputs)
        if results == 1:
            return as_objects(found, shape)
        return tuple(as_objects([item[k] for item in found], shape) for k in range(results))


def _rows(tensor: Tensor, core: int, shape: tuple[int, ...]) -> list[Any]:
    """The tensor broadcast to `shape`, flattened; each item a Number, or a list of Numbers where core is 1."""
    if not core:
        return list(np.broadcast_to(tensor, shape).reshape(-1))
    full = np.broadcast_to(tensor, (*shape, tensor.shape[-1]))
    return full.reshape(-1, tensor.shape[-1]).tolist()


def as_objects(items: Sequence[Number], shape: tuple[int, ...]) -> np.ndarray:
    """An object array [*shape]; NumPy must be kept from unpacking the Numbers, which are tuples."""
    result = np.empty(len(items), dtype=object)
    for k, item in enumerate(items):
        result[k] = item
    return result.reshape(shape)
