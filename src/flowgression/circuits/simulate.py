"""Evaluating circuits: 64 samples per machine word with Numba.

Letters: S samples, N inputs, O outputs, V = N + gates nodes, L words of 64 samples that are worked on together.
"""

from functools import cache
from typing import Any

import numpy as np

from flowgression.circuits.ir import Circuit, check_magnitudes
from flowgression.errors import InputError

LANES = 8
"""Words per pass: 512 samples, wide enough for the compiler to use vector instructions."""


def evaluate(circuit: Circuit, inputs: np.ndarray) -> np.ndarray:
    """bool [S, N] -> bool [S, O], bit-sliced."""
    return evaluate_nodes(circuit, inputs, circuit.outputs)


def evaluate_nodes(circuit: Circuit, inputs: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """bool [S, N] and node numbers [W] -> bool [S, W], those nodes' values, bit-sliced."""
    inputs = _checked(circuit, inputs)
    kernel = _kernel()
    width = _accumulator_bits(circuit)
    first = np.searchsorted(circuit.gate_row, np.arange(len(circuit.row_ptr)))
    arrays = (circuit.row_ptr, circuit.row_idx, circuit.row_w, first, circuit.theta)
    nodes = np.zeros((circuit.num_inputs + circuit.num_gates, LANES), dtype=np.uint64)
    result = np.empty((len(inputs), len(wanted)), dtype=bool)
    for start in range(0, len(inputs), 64 * LANES):
        chunk = inputs[start : start + 64 * LANES]
        nodes[: circuit.num_inputs] = pack(chunk)
        kernel(*arrays, circuit.num_inputs, width, nodes)
        result[start : start + len(chunk)] = unpack(nodes[wanted], len(chunk))
    return result


def pack(bits: np.ndarray) -> np.ndarray:
    """bool [S <= 64 L, N] -> uint64 [N, L]; sample s is bit s % 64 of word s // 64."""
    padded = np.zeros((64 * LANES, bits.shape[1]), dtype=bool)
    padded[: len(bits)] = bits
    packed = np.packbits(padded.T.reshape(bits.shape[1], LANES, 64), axis=-1, bitorder="little")
    return np.ascontiguousarray(packed).view("<u8")[..., 0].astype(np.uint64)


def unpack(words: np.ndarray, samples: int) -> np.ndarray:
    """uint64 [N, L] -> bool [samples, N]."""
    bits = np.unpackbits(words.astype("<u8").view(np.uint8), axis=-1, bitorder="little")
    return bits[:, :samples].T.astype(bool)


def _checked(circuit: Circuit, inputs: np.ndarray) -> np.ndarray:
    inputs = np.asarray(inputs)
    if inputs.ndim != 2 or inputs.shape[1] != circuit.num_inputs or inputs.dtype != bool:
        raise InputError(
            f"inputs are {inputs.dtype} {inputs.shape}, expected bool [samples, {circuit.num_inputs}]: "
            "use circuit.encode_inputs."
        )
    return inputs


def _accumulator_bits(circuit: Circuit) -> int:
    """Bits that hold every row's sum of |weights| and every shifted theta."""
    check_magnitudes(circuit.row_ptr, circuit.row_w, circuit.theta)
    absolute, starts = np.abs(circuit.row_w), circuit.row_ptr[:-1][np.diff(circuit.row_ptr) > 0]
    return int(np.add.reduceat(absolute, starts).max() if len(starts) else 0).bit_length() + 1


@cache
def _kernel() -> Any:
    """Compile the bit-sliced evaluator.

    Each row's sum is kept as `width` vertical bits per sample: adding a weight ripples its bits up from their
    positions, so one machine instruction serves 64 samples, and a bank's row is summed once for all of its gates. A
    negative weight -w adds w (1 - x), and the thresholds move by the sum of such w.
    """
    try:
        import numba
    except ImportError as error:
        raise ImportError("evaluating circuits needs numba: pip install 'flowgression[circuits]'") from error

    @numba.njit(cache=True, nogil=True)
    def run(row_ptr, row_idx, row_w, first, theta, num_inputs, width, nodes):  # type: ignore[no-untyped-def]
        lanes = nodes.shape[1]
        total = np.zeros((width, lanes), dtype=np.uint64)
        carry = np.empty(lanes, dtype=np.uint64)
        full = np.uint64(0xFFFFFFFFFFFFFFFF)
        for row in range(len(row_ptr) - 1):
            total[:] = 0
            negative = np.int64(0)
            bound = np.int64(0)
            for edge in range(row_ptr[row], row_ptr[row + 1]):
                weight = row_w[edge]
                node = row_idx[edge]
                flip = np.uint64(0)
                if weight < 0:
                    weight = -weight
                    negative += weight
                    flip = full
                bound += weight
                used = 0
                while bound >> used:
                    used += 1
                position = 0
                while weight:
                    if weight & 1:
                        for lane in range(lanes):
                            carry[lane] = nodes[node, lane] ^ flip
                        for bit in range(position, used):
                            for lane in range(lanes):
                                old = total[bit, lane]
                                total[bit, lane] = old ^ carry[lane]
                                carry[lane] &= old
                    weight >>= 1
                    position += 1
            used = 0
            while bound >> used:
                used += 1
            for gate in range(first[row], first[row + 1]):
                # carry holds "the bits seen so far, from the lowest, make sum >= theta".
                limit = theta[gate] + negative
                for lane in range(lanes):
                    carry[lane] = full
                if limit > bound:
                    for lane in range(lanes):
                        carry[lane] = 0
                elif limit > 0:
                    for bit in range(used):
                        if (limit >> bit) & 1:
                            for lane in range(lanes):
                                carry[lane] &= total[bit, lane]
                        else:
                            for lane in range(lanes):
                                carry[lane] |= total[bit, lane]
                for lane in range(lanes):
                    nodes[num_inputs + gate, lane] = carry[lane]

    return run
