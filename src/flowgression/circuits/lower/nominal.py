"""The model on depths: a bound on the circuit's depth that holds for every size, from nominal depths of operations.

The longest path of a circuit may be shorter: small sums take shortcuts, and bits of one number have different depths.
"""

from collections.abc import Callable, Hashable, Sequence
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
    "at_least_one": 1,
    "apply": 0,
    "inverse": 3,
    "rescale": 8 + 2 + CLAMP,
    "one_hot": 1,
    "select": 2,
}
"""Nominal depth of each operation's cell (cells.py); `apply` and `inverse` add that of their function."""


class NominalOps(CellOps):
    """Tensors are int64 arrays of depths."""

    def __init__(self, precision: Precision, backend: str = "table"):
        super().__init__(precision, backend)
        self.depth = 0

    def constant(self, integers: np.ndarray) -> Tensor:
        return np.zeros(np.shape(integers), dtype=np.int64)

    def parameter(self, values: np.ndarray, fraction: int | None = None) -> Tensor:
        return self.constant(values)

    def _map(
        self, cell: Callable[..., Any], key: Hashable, tensors: Sequence[Tensor], core: Sequence[int], results: int = 1
    ) -> Any:
        assert isinstance(key, tuple)
        depth = DEPTHS[key[0]] + (FUNCTION[self.backend] if key[0] in ("apply", "inverse") else 0)
        latest = [tensor.max(-1) if c else tensor for tensor, c in zip(tensors, core, strict=True)]
        result = np.maximum.reduce(np.broadcast_arrays(*latest)) + depth
        self.depth = max(self.depth, int(result.max(initial=0)))
        return (result,) * results if results > 1 else result
