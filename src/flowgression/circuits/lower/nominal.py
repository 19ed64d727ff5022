"""The model on depths: a bound on the circuit's depth that holds for every size, from nominal depths of operations.

The longest path of a circuit may be shorter: small sums take shortcuts, and bits of one number have different depths.
"""

from collections.abc import Callable, Hashable, Sequence
from functools import reduce
from typing import Any

import numpy as np

from flowgression.circuits.lower.gates import CellOps
from flowgression.circuits.lower.ops import Tensor
from flowgression.circuits.lower.precision import Precision

FUNCTION = {"table": 2, "crt": 9}
CLAMP = 2
DEPTHS = {
    "dot": 8 + CLAMP,
    "fused": 8 + CLAMP,
    "mix": 7 + CLAMP,
    "total": 7,
    "square_sum": 8 + CLAMP,
    "centred_square_sum": 8,
    "ceiling": 3,
    "at_least_one": 1,
    "apply": 0,
    "inverse": 3,
    "rescale": 8 + 2 + CLAMP,
    "one_hot": 1,
    "select": 2,
}
"""Nominal depth of each operation's cell (cells.py); `apply` and `inverse` add that of their function."""


class NominalOps(CellOps):
    """Tensors are int64 arrays of depths. Also counts operations, the same for every interpreter."""

    def __init__(self, precision: Precision, backend: str = "table"):
        super().__init__(precision, backend)
        self.depth = self.operations = 0

    def constant(self, integers: np.ndarray) -> Tensor:
        return np.broadcast_to(np.int64(0), np.shape(integers))

    def parameter(self, values: np.ndarray, fraction: int | None = None) -> Tensor:
        return self.constant(values)

    def _map(
        self, cell: Callable[..., Any], key: Hashable, tensors: Sequence[Tensor], core: Sequence[int], results: int = 1
    ) -> Any:
        assert isinstance(key, tuple)
        depth = DEPTHS[key[0]] + (FUNCTION[self.backend] if key[0] in ("apply", "inverse") else 0)
        latest = [_latest(tensor, c) for tensor, c in zip(tensors, core, strict=True)]
        shape = np.broadcast_shapes(*(each.shape for each in latest))
        once = [each if any(each.strides) else each.flat[0] for each in latest]  # one value broadcast is kept as one
        result = np.broadcast_to(reduce(np.maximum, once) + depth, shape)
        self.depth = max(self.depth, int(result.max(initial=0)))
        self.operations += 1
        return (result,) * results if results > 1 else result


def _latest(tensor: Tensor, core: int) -> Tensor:
    """Per element, or per row along the last dimension: the depth of its latest number."""
    if not core:
        return tensor
    return tensor.max(-1) if any(tensor.strides) else tensor[..., 0]
