"""The circuit itself: threshold gates in CSR arrays, with statistics and one file format.

Letters: N inputs, G gates, R rows, E stored edges. Node i is input i for i < N, else gate i - N.
A gate is [sum_i w_i x_i >= theta] with integer weights. Gates that share their sum (a bank) share one stored row.
"""

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from flowgression.circuits.proof.files import ARRAYS as _ARRAYS
from flowgression.circuits.proof.files import CIRCUIT_FORMAT, SUM_LIMIT, read_circuit
from flowgression.errors import InputError, reading
from flowgression.files import atomic_write


@dataclass(frozen=True)
class Statistics:
    """Size of a circuit. `wires` counts the fan-in of every gate, `edges` counts a bank's row once."""

    gates: int = 0
    wires: int = 0
    edges: int = 0
    depth: int = 0
    largest_weight: int = 0
    weight_sum: int = 0

    def to_dict(self) -> dict[str, int]:
        return asdict(self)


@dataclass(frozen=True)
class Port:
    """A named tensor of two's-complement numbers at the circuit's border; its bits are stored number by number, low
    bit first.

    `signed` tells whether the last bit of each number weighs -2^(width-1).
    """

    name: str
    shape: tuple[int, ...]
    width: int
    signed: bool

    @property
    def num_bits(self) -> int:
        return int(np.prod(self.shape, dtype=np.int64)) * self.width

    def encode(self, values: np.ndarray) -> np.ndarray:
        """int [samples, *shape] -> bool [samples, num_bits]. Raises InputError for values outside the port's range."""
        values = np.asarray(values, dtype=np.int64)
        low = -(1 << (self.width - 1)) if self.signed else 0
        high = low + (1 << self.width) - 1
        if values.shape[1:] != self.shape:
            raise InputError(f"{self.name} has shape {values.shape[1:]} per sample, expected {self.shape}.")
        if values.size and (values.min() < low or values.max() > high):
            raise InputError(
                f"{self.name} holds values in [{values.min()}, {values.max()}], "
                f"expected [{low}, {high}] ({self.width} bits): clamp them first."
            )
        bits = values[..., None] >> np.arange(self.width) & 1
        return bits.reshape(len(values), self.num_bits).astype(bool)

    def decode(self, bits: np.ndarray) -> np.ndarray:
        """bool [samples, num_bits] -> int64 [samples, *shape]."""
        weights = np.int64(1) << np.arange(self.width, dtype=np.int64)
        if self.signed:
            weights[-1] = -weights[-1]
        digits = bits.reshape(len(bits), *self.shape, self.width).astype(np.int64)
        return (digits * weights).sum(-1)


@dataclass(frozen=True)
class Circuit:
    """Gates in topological order, those of one row together.

    row_ptr int64 [R+1], row_idx int32 [E] (node numbers), row_w int64 [E]; gate_row int32 [G], theta int64 [G],
    level int32 [G] (1 + the largest level among its inputs; inputs are level 0); outputs int32 (node numbers).
    """

    num_inputs: int
    row_ptr: np.ndarray
    row_idx: np.ndarray
    row_w: np.ndarray
    gate_row: np.ndarray
    theta: np.ndarray
    level: np.ndarray
    outputs: np.ndarray
    input_ports: tuple[Port, ...] = ()
    output_ports: tuple[Port, ...] = ()
    metadata: dict[str, Any] = field(default_factory=dict)

    @property
    def num_gates(self) -> int:
        return len(self.theta)

    def row_of(self, gate: int) -> tuple[np.ndarray, np.ndarray]:
        """Nodes and weights that gate number `gate` (not node number) reads."""
        row = self.gate_row[gate]
        span = slice(self.row_ptr[row], self.row_ptr[row + 1])
        return self.row_idx[span], self.row_w[span]

    def statistics(self) -> Statistics:
        fan_in = np.diff(self.row_ptr)
        absolute = np.abs(self.row_w)
        row_sum = np.concatenate([[0], np.cumsum(absolute)])
        row_sum = row_sum[self.row_ptr[1:]] - row_sum[self.row_ptr[:-1]]
        return Statistics(
            gates=self.num_gates,
            wires=int(fan_in[self.gate_row].sum()),
            edges=len(self.row_idx),
            depth=int(self.level.max(initial=0)),
            largest_weight=int(absolute.max(initial=0)),
            weight_sum=int(row_sum[self.gate_row].sum()),
        )

    def encode_inputs(self, **tensors: np.ndarray) -> np.ndarray:
        """Named integer tensors [samples, *shape] -> bool [samples, N] in the order of the input ports."""
        names = {port.name for port in self.input_ports}
        if set(tensors) != names:
            raise InputError(f"inputs {sorted(tensors)} were given, the circuit reads {sorted(names)}.")
        return np.concatenate([port.encode(tensors[port.name]) for port in self.input_ports], axis=1)

    def decode_outputs(self, bits: np.ndarray) -> dict[str, np.ndarray]:
        """bool [samples, number of outputs] -> named integer tensors."""
        result, start = {}, 0
        for port in self.output_ports:
            result[port.name] = port.decode(bits[:, start : start + port.num_bits])
            start += port.num_bits
        return result

    def save(self, path: str | Path) -> None:
        """Write one .npz file."""
        header = {
            "format": CIRCUIT_FORMAT,
            "num_inputs": self.num_inputs,
            "input_ports": [asdict(port) for port in self.input_ports],
            "output_ports": [asdict(port) for port in self.output_ports],
            "metadata": self.metadata,
        }
        arrays = {name: getattr(self, name) for name in _ARRAYS}
        with atomic_write(path) as file:
            np.savez_compressed(file, header=np.array(json.dumps(header)), **arrays)


def check_magnitudes(row_ptr: np.ndarray, row_w: np.ndarray, theta: np.ndarray) -> None:
    """Raise InputError for weights or thresholds beyond the format's limit."""
    starts = row_ptr[:-1][np.diff(row_ptr) > 0]
    largest = np.add.reduceat(np.abs(row_w, dtype=np.float64), starts).max() if len(starts) else 0.0
    if largest >= SUM_LIMIT:
        raise InputError(
            f"a row's absolute weights sum to {largest:.3g}; circuits hold sums below 2^53: use smaller widths."
        )
    if theta.size and not -SUM_LIMIT < theta.min() <= theta.max() < SUM_LIMIT:
        raise InputError("a threshold is 2^53 or more in absolute value: use smaller widths.")


def load(path: str | Path) -> Circuit:
    """Read a file written by `Circuit.save`. Raises InputError if it is something else."""
    if not Path(path).is_file():
        raise InputError(f"{path} is not a file; expected a circuit written by `flowgression circuit compile`.")
    with reading(path, "compile the model again."):
        found = read_circuit(Path(path))
    ports = [tuple(Port(*each) for each in each_side) for each_side in (found.inputs, found.outputs)]
    arrays = {name: np.array(getattr(found, "output_nodes" if name == "outputs" else name)) for name in _ARRAYS}
    circuit = Circuit(found.num_inputs, **arrays, input_ports=ports[0], output_ports=ports[1], metadata=found.metadata)
    check(circuit)
    return circuit


def check(circuit: Circuit) -> None:
    """Raise InputError unless every gate reads earlier nodes only and all indices are in range."""
    arrays = {name: getattr(circuit, name) for name in _ARRAYS}
    if wrong := [name for name, array in arrays.items() if array.ndim != 1 or array.dtype.kind != "i"]:
        raise InputError(f"the circuit's {wrong[0]} is no list of whole numbers; the file is damaged.")
    sizes = {len(circuit.theta), len(circuit.gate_row), len(circuit.level)}
    if len(sizes) != 1 or len(circuit.row_ptr) < 1 or len(circuit.row_w) != len(circuit.row_idx):
        raise InputError("the circuit's arrays have lengths that do not fit each other; the file is damaged.")
    nodes, rows = circuit.num_inputs + circuit.num_gates, len(circuit.row_ptr) - 1
    for name, array, below in (("outputs", circuit.outputs, nodes), ("gate_row", circuit.gate_row, rows)):
        if array.size and not 0 <= array.min() <= array.max() < below:
            raise InputError(f"the circuit's {name} are outside of 0 to {below - 1}; the file is damaged.")
    if circuit.level.min(initial=1) < 1 or circuit.level.max(initial=0) > circuit.num_gates or circuit.num_inputs < 0:
        raise InputError("the circuit's levels are outside of 1 to its number of gates; the file is damaged.")
    fan_in = np.diff(circuit.row_ptr)
    if (len(fan_in) and fan_in.min() < 0) or circuit.row_ptr[-1] != len(circuit.row_idx):
        raise InputError("the circuit's row_ptr does not describe its edges; the file is damaged.")
    if circuit.num_gates and np.any(np.diff(circuit.gate_row) < 0):
        raise InputError("the circuit's gates are not grouped by row; the file is damaged.")
    first_gate = np.full(len(fan_in), circuit.num_gates)
    np.minimum.at(first_gate, circuit.gate_row, np.arange(circuit.num_gates))
    newest = np.repeat(first_gate + circuit.num_inputs, fan_in)
    if np.any(circuit.row_idx >= newest) or np.any(circuit.row_idx < 0):
        raise InputError("a gate of the circuit reads a node that comes after it; the file is damaged.")
    check_magnitudes(circuit.row_ptr, circuit.row_w, circuit.theta)
    if _repeats(circuit.row_ptr, circuit.row_idx):
        raise InputError("a gate of the circuit reads a node twice; the file is damaged.")


def _repeats(row_ptr: np.ndarray, row_idx: np.ndarray) -> bool:
    """Whether a row holds a node twice; 2^22 entries at a time."""
    first = 0
    while first < len(row_ptr) - 1:
        last = max(int(np.searchsorted(row_ptr, row_ptr[first] + (1 << 22), "right")) - 1, first + 1)
        row = np.repeat(np.arange(last - first), np.diff(row_ptr[first : last + 1]))
        key = np.sort((row << 32) + row_idx[row_ptr[first] : row_ptr[last]])
        if np.any(key[1:] == key[:-1]):
            return True
        first = last
    return False
