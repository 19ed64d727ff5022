"""The two files of a proof: a saved circuit, checked to be one, and its certificate (docs/circuits-format.md)."""

import ast
import hashlib
import io
import zipfile
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.model import ELEMENTS, SIDES, Input
from flowgression.circuits.proof.schema import (
    Damaged,
    Each,
    Int,
    Record,
    boolean,
    distinct,
    just,
    mapping,
    must,
    name,
    read_json,
)

CIRCUIT_FORMAT = "flowgression-circuit-1"
CERTIFICATE_FORMAT = "flowgression-certificate-2"
ARRAYS = ("row_ptr", "row_idx", "row_w", "gate_row", "theta", "level", "outputs")
SUM_LIMIT = 1 << 53
"""A row's absolute weights sum to less, and no threshold reaches it: no evaluator overflows, not even in float64."""
NODES = (1 << 31) - 1
LARGEST_FILE = 1 << 32
KINDS = (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED)
FREE, EXPANSION = 1 << 26, 100
"""Bytes that any circuit may take, and how many more for each byte of its file."""


def _port(width: int) -> Record:
    return Record(name=name, shape=SIDES, width=Int(1, width), signed=boolean)


_HEADER = Record(
    format=just(CIRCUIT_FORMAT),
    num_inputs=Int(1, 1 << 22),
    input_ports=Each(_port(62)),
    output_ports=Each(_port(4096)),
    metadata=mapping,
)


class Circuit(NamedTuple):
    """Gates [sum over row of weight * node >= theta] in CSR arrays; node k is input k, then gate k - num_inputs.

    digest: SHA-256 of the file; metadata: what its maker wrote, which proves nothing.
    """

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
    metadata: dict[str, Any]

    @property
    def depth(self) -> int:
        return int(self.level.max(initial=0))

    def row(self, gate: int) -> list[tuple[int, int]]:
        """Nodes and weights."""
        span = slice(self.row_ptr[self.gate_row[gate]], self.row_ptr[self.gate_row[gate] + 1])
        return list(zip(self.row_idx[span].tolist(), self.row_w[span].tolist(), strict=True))


def _bytes(path: Path) -> bytes:
    try:
        size = path.stat().st_size
        must(path.is_file() and size <= LARGEST_FILE, f"{path} is no file of at most {LARGEST_FILE} bytes")
        return path.read_bytes()
    except (OSError, ValueError) as error:
        raise Damaged(f"{path} cannot be read: {error}") from None


def read_circuit(path: Path) -> Circuit:
    """A saved circuit, after proof that it is one: gates in order, levels right, sums within the limit. Raises Damaged
    if it is not.
    """
    data = _bytes(path)
    try:
        arrays = _arrays(data, path)
    except Damaged:
        raise
    except Exception as error:  # zipfile raises a dozen kinds on damaged files
        raise Damaged(f"{path} is no circuit's file ({error})") from None
    header = _HEADER(read_json(arrays.pop("header").tobytes(), f"{path}: header", floats=True), f"{path}: header")
    inputs, outputs = (
        [Input(port["name"], tuple(port["shape"]), port["width"], port["signed"]) for port in header[key]]
        for key in ("input_ports", "output_ports")
    )
    for ports in (inputs, outputs):
        distinct([port.name for port in ports], f"the ports of {path}")
    lists = [arrays[each] for each in ARRAYS]
    digest = hashlib.sha256(data).hexdigest()
    circuit = Circuit._make([header["num_inputs"], inputs, outputs, *lists, digest, header["metadata"]])
    must(sum(port.size * port.width for port in inputs) == circuit.num_inputs, "input ports of other bits than the N")
    bits = sum(port.size * port.width for port in outputs)
    must(bits == len(circuit.output_nodes), "output ports of other bits than the outputs")
    must(sum(port.size for port in outputs) <= ELEMENTS, f"more than {ELEMENTS} elements of outputs")
    _check_gates(circuit)
    return circuit


def _arrays(data: bytes, path: Path) -> dict[str, np.ndarray]:
    """The members of an npz file; nothing is unpacked before it is known to be of a sensible size."""
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = archive.infolist()
        expected = {f"{each}.npy" for each in (*ARRAYS, "header")}
        found = [member.filename for member in members]
        must(len(found) == len(expected) and set(found) == expected, f"{path} has other members than a circuit")
        must(all(member.compress_type in KINDS for member in members), f"{path} is packed in another way than deflate")
        size = sum(member.file_size for member in members)
        must(size <= FREE + EXPANSION * len(data), f"{path} would unpack to {size} bytes, which no circuit does")
        return {
            member.filename.removesuffix(".npy"): _array(archive.read(member), member.filename) for member in members
        }


def _array(data: bytes, label: str) -> np.ndarray:
    """An array of the npy format, version 1: one dimension of int32 or int64, or one string."""
    must(data[:8] == b"\x93NUMPY\x01\x00" and len(data) >= 10, f"{label} is no array of NumPy's format 1.0")
    start = 10 + int.from_bytes(data[8:10], "little")
    must(start <= len(data) and start < 4096, f"{label} has no heading")
    try:
        heading = ast.literal_eval(data[10:start].decode("latin1").strip())
    except (ValueError, SyntaxError, MemoryError, RecursionError, TypeError):
        heading = None
    must(type(heading) is dict and heading.keys() == {"descr", "fortran_order", "shape"}, f"{label} has no heading")
    shape, dtype = heading["shape"], heading["descr"]
    must(type(shape) is tuple and type(dtype) is str and heading["fortran_order"] is False, f"{label} is no list")
    if label == "header.npy":
        must(dtype[:2] == "<U" and shape == (), f"{label} is no string")
        return np.frombuffer(data[start:].decode("utf-32-le").encode(), np.uint8)
    must(dtype in ("<i4", "<i8"), f"{label} holds {dtype[:20]}; expected int32 or int64")
    must(len(shape) == 1 and type(shape[0]) is int and shape[0] >= 0, f"{label} has another shape than a list")
    right = int(dtype[2]) * shape[0] == len(data) - start
    must(right, f"{label} has another size than its heading says")
    return np.frombuffer(data, dtype, offset=start) if shape[0] else np.zeros(0, dtype)


def _check_gates(c: Circuit) -> None:
    gates, rows = len(c.theta), len(c.row_ptr) - 1
    must(c.num_inputs + gates <= NODES, f"more than {NODES} nodes")
    must(len(c.gate_row) == len(c.level) == gates and len(c.row_idx) == len(c.row_w), "arrays of different lengths")
    must(0 <= rows <= gates, "arrays of different lengths")
    fan_in: np.ndarray = np.diff(c.row_ptr.astype(np.int64))
    must(c.row_ptr[0] == 0 and c.row_ptr[-1] == len(c.row_idx) and bool(np.all(fan_in >= 0)), "rows with gaps")
    new = np.diff(c.gate_row.astype(np.int64), prepend=-1)
    right = bool(np.all((new == 0) | (new == 1))) and int(new.sum()) == rows and bool(np.all(new[:1] == 1))
    must(right, "gates that do not stand row by row")
    first = np.flatnonzero(new) + c.num_inputs
    must(len(first) == rows, "a row without gates")
    must(bool(np.all((c.row_idx >= 0) & (c.row_idx < np.repeat(first, fan_in)))), "a gate reads a later one")
    last = c.num_inputs + gates
    must(bool(np.all((c.output_nodes >= 0) & (c.output_nodes < last))), "an output of no gate")
    must(bool(np.all((c.theta > -SUM_LIMIT) & (c.theta < SUM_LIMIT))), "a threshold beyond 2^53")
    starts, some = c.row_ptr[:-1][fan_in > 0], fan_in > 0  # constant outputs have rows without nodes
    above = np.ones(rows, dtype=np.int64)
    if len(starts):
        sums = np.add.reduceat(np.abs(c.row_w, dtype=np.float64), starts)  # exact below the limit, never less than it
        must(bool(np.all(sums < SUM_LIMIT)), "weights of a row that sum to 2^53 or more")
        levels = np.concatenate([np.zeros(c.num_inputs, dtype=np.int32), c.level])
        above[some] += np.maximum.reduceat(levels[c.row_idx], starts)
    must(bool(np.array_equal(above[c.gate_row], c.level)), "a level is wrong")


def read_json_file(path: Path) -> Any:
    """The JSON of a certificate, not yet compared with any schema."""
    return read_json(_bytes(path), str(path))
