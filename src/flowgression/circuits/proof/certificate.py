"""What a certificate says, read by one schema (docs/circuits-format.md): model, cells, calls, outputs.

Nothing of it is believed: checker.py says what is proved of it.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from flowgression.circuits.proof.cell import leaves_of
from flowgression.circuits.proof.files import CERTIFICATE_FORMAT
from flowgression.circuits.proof.meaning import OPERATIONS, WHOLE
from flowgression.circuits.proof.model import Model, read_model
from flowgression.circuits.proof.netlist import Bit, Number, Value, read_argument, read_bit, read_value
from flowgression.circuits.proof.schema import Each, Int, Integers, Items, Record, Schema, anything, just, must, text
from flowgression.circuits.proof.sums import SUM, Sum, read_sum

SUMS = {"dot", "fused", "mix", "total", "square_sum", "centred_square_sum", "rescale"}
"""Operations that are proved by their columns, unless their result is a constant."""


class CellClaim(NamedTuple):
    """A distinct cell as the certificate has it, on nodes of its own; num_inputs: nodes that its arguments have."""

    operation: str
    parameters: dict[str, Any]
    arguments: list[Any]
    results: list[Value]
    gates: int
    sum: Sum | None
    mantissa: list[Bit]
    num_inputs: int


class Like(NamedTuple):
    """A fresh argument with the interval and the bits of an earlier number."""

    number: int


class Call(NamedTuple):
    cell: int
    numbers: list[int]


class Certificate(NamedTuple):
    """calls: Call or Like, in order; outputs: for each port the number of a number, or a list of one constant."""

    model: Model
    cells: list[CellClaim]
    calls: list[Call | Like]
    outputs: list[list[Any]]


_COUNT = Int(0, 1 << 31)
_CERTIFICATE = Record(
    format=just(CERTIFICATE_FORMAT),
    model=anything,
    cells=Each(anything, 0),
    calls=Each(anything, 0),
    outputs=Each(Each(anything)),
)
_LIKE = Record(like=_COUNT)
_CALL = Integers(0, 1 << 31)
_FIXED: dict[str, Schema] = {
    "operation": text,
    "parameters": anything,
    "arguments": Each(read_argument),
    "gates": _COUNT,
}
_CONSTANT = Items(WHOLE)


def read_certificate(data: Any) -> Certificate:
    """Raises Damaged where it does not follow the format."""
    found = _CERTIFICATE(data, "certificate")
    model = read_model(found["model"])
    cells = [_read_cell(each, f"cell {k}") for k, each in enumerate(found["cells"])]
    calls = _read_calls(found["calls"], cells, sum(each.size for each in model.inputs))
    outputs = [[_read_output(each) for each in port] for port in found["outputs"]]
    return Certificate(model, cells, calls, outputs)


def _read_output(each: Any) -> Any:
    return _CONSTANT(each, "an output") if type(each) is list else _COUNT(each, "an output")


def _read_cell(data: Any, where: str) -> CellClaim:
    label = str(data.get("operation")) if type(data) is dict else ""
    must(label in OPERATIONS, f"{where} has no operation that is known")
    operation = OPERATIONS[label]
    results = data.get("results")
    hints: dict[str, Schema] = {"mantissa": Each(read_bit)} if label == "inverse" else {}
    if label in SUMS and not (type(results) is list and type(results[:1]) is list and _is_constant(results)):
        hints = SUM
    schemas = _FIXED | {"results": Items(*[read_value] * operation.results)} | hints
    found = Record(**schemas)(data, where)
    parameters = operation.parameters(found["parameters"], f"{where} {label}")
    operation.check(parameters, found["arguments"], where)
    mantissa = found.get("mantissa", [])
    if label == "inverse":
        must(len(mantissa) == parameters["bits"] + parameters["root"], f"{where} has a mantissa of another width")
    claimed = read_sum(found, where) if "sum" in hints else None
    inputs = _inputs(found["arguments"], where)
    return CellClaim(label, parameters, found["arguments"], found["results"], found["gates"], claimed, mantissa, inputs)


def _is_constant(results: Sequence[Any]) -> bool:
    return len(results) == 1 and type(results[0]) is int


def _inputs(arguments: Sequence[Any], where: str) -> int:
    """How many nodes the arguments have; they must be 0, 1, ..."""
    nodes = {n for x in leaves_of(arguments) if isinstance(x, Number) for bit in x.bits for n in bit.nodes}
    must(nodes == set(range(len(nodes))), f"{where} has arguments on other nodes than its inputs")
    return len(nodes)


def _read_calls(data: Sequence[Any], cells: Sequence[CellClaim], count: int) -> list[Call | Like]:
    """`count` numbers come before them."""
    made = [sum(isinstance(x, Number) for x in each.results) for each in cells]
    wanted = [sum(isinstance(x, Number) for x in leaves_of(each.arguments)) for each in cells]
    calls: list[Call | Like] = []
    for k, each in enumerate(data):
        where = f"call {k}"
        if type(each) is dict:
            numbers = [_LIKE(each, where)["like"]]
            calls.append(Like(numbers[0]))
        else:
            cell, *numbers = _CALL(each, where)
            must(cell < len(cells), f"{where} is of no cell")
            must(len(numbers) == wanted[cell], f"{where} has {len(numbers)} numbers; its cell reads {wanted[cell]}")
            calls.append(Call(cell, numbers))
        must(max(numbers, default=0) < max(count, 1), f"{where} reads a number that does not come before it")
        count += made[cell] if type(each) is list else 1
    must({each.cell for each in calls if type(each) is Call} == set(range(len(cells))), "a cell that is never called")
    return calls
