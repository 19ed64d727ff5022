"""Circuits evaluated level by level as sparse int64 matrix products: slow, and independent of the package's kernel."""

import numpy as np
from scipy import sparse

from flowgression.circuits import Circuit
from flowgression.circuits.ir import check_magnitudes


def evaluate_scipy(circuit: Circuit, inputs: np.ndarray) -> np.ndarray:
    """bool [S, N] -> bool [S, O]."""
    check_magnitudes(circuit.row_ptr, circuit.row_w, circuit.theta)
    values = np.zeros((circuit.num_inputs + circuit.num_gates, len(inputs)), dtype=np.int64)
    values[: circuit.num_inputs] = inputs.T
    shape = (len(circuit.row_ptr) - 1, len(values))
    matrix = sparse.csr_matrix((circuit.row_w, circuit.row_idx, circuit.row_ptr), shape=shape)
    for level in range(1, int(circuit.level.max(initial=0)) + 1):
        gates = np.flatnonzero(circuit.level == level)
        sums = matrix[circuit.gate_row[gates]] @ values
        values[circuit.num_inputs + gates] = sums >= circuit.theta[gates, None]
    return values[circuit.outputs].T.astype(bool)
