"""The two files of a proof: a saved circuit, checked to be one, and its certificate."""

import hashlib
import json
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.meaning import Input, Rejected, need

CIRCUIT_FORMAT = "flowgression-circuit-1"
ARRAYS = ("row_ptr", "row_idx", "row_w", "gate_row", "theta", "level", "outputs")


class Circuit(NamedTuple):
    """Gates [sum over row of weight * node >= theta] in CSR arrays; node k is input k, then gate k - num_inputs."""

    num_inputs: int
    inputs: list[Input]
    outputs: list[Input]
    row_ptr: np.ndarray
    row_idx: np.ndarray
    row_w: np.ndarray
    gate_row: np.ndarray
    theta: np.ndarray
    level: np.ndarray
    output_nodes: np.ndarray
    digest: str

    def row(self, gate: int) -> dict[int, int]:
        span = slice(self.row_ptr[self.gate_row[gate]], self.row_ptr[self.gate_row[gate] + 1])
        return dict(zip(self.row_idx[span].tolist(), self.row_w[span].tolist(), strict=True))


def read_circuit(path: Path) -> Circuit:
    """A saved circuit, after proof that it is one: gates in order, levels right, sums within int64."""
    with np.load(path, allow_pickle=False) as data:
        text = str(data["header"])
        arrays = {name: data[name].astype(np.int64, casting="safe") for name in ARRAYS}
    header = json.loads(text)
    need(header["format"] == CIRCUIT_FORMAT, f"{path} is not of the format {CIRCUIT_FORMAT}")
    inputs, outputs = (
        [Input(port["name"], tuple(port["shape"]), port["width"], port["signed"]) for port in header[key]]
        for key in ("input_ports", "output_ports")
    )
    digest = hashlib.sha256(json.dumps(header, sort_keys=True).encode())
    for name in ARRAYS:
        digest.update(arrays[name].tobytes())
    circuit = Circuit._make([header["num_inputs"], inputs, outputs, *arrays.values(), digest.hexdigest()])
    _check_gates(circuit)
    return circuit


def _check_gates(c: Circuit) -> None:
    fan_in, gates = np.diff(c.row_ptr), len(c.theta)
    need(len(c.gate_row) == len(c.level) == gates and len(c.row_idx) == len(c.row_w), "arrays of one length")
    need(c.row_ptr[0] == 0 and c.row_ptr[-1] == len(c.row_idx) and bool(np.all(fan_in >= 0)), "rows without gaps")
    need(np.array_equal(np.unique(c.gate_row), np.arange(len(fan_in))), "a row without gates")
    need(bool(np.all(np.diff(c.gate_row) >= 0)), "gates of one row stand together")
    first = np.searchsorted(c.gate_row, np.arange(len(fan_in))) + c.num_inputs
    need(bool(np.all((c.row_idx >= 0) & (c.row_idx < np.repeat(first, fan_in)))), "a gate reads a later one")
    need(bool(np.all((c.output_nodes >= 0) & (c.output_nodes < c.num_inputs + gates))), "an output of no gate")
    starts, some = c.row_ptr[:-1][fan_in > 0], fan_in > 0  # constant outputs have rows without nodes
    above = np.ones(len(fan_in), dtype=np.int64)
    if len(starts):
        sums = np.add.reduceat(np.abs(c.row_w.astype(float)), starts)
        need(bool(np.all(sums < 2.0**62)), "a sum beyond int64")
        levels = np.concatenate([np.zeros(c.num_inputs, dtype=np.int64), c.level])
        above[some] += np.maximum.reduceat(levels[c.row_idx], starts)
    need(np.array_equal(above[c.gate_row], c.level), "a level is wrong")


def read_certificate(path: Path) -> dict[str, Any]:
    """JSON with integers only: floats prove nothing."""

    def refuse(text: str) -> Any:
        raise Rejected(f"{path} holds {text}, which is no integer")

    with open(path) as file:
        return json.load(file, parse_float=refuse, parse_constant=refuse)
