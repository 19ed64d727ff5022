"""Why a function of one number is right: on every argument. Rules of cells.py."""

from collections.abc import Mapping
from typing import Any

import numpy as np

from flowgression.circuits.proof.cell import Cell, with_bits
from flowgression.circuits.proof.meaning import Function
from flowgression.circuits.proof.netlist import Net, Value, every_value, holds
from flowgression.circuits.proof.schema import need


def apply(cell: Cell, x: Value, *, function: Mapping[str, Any]) -> int:
    values, known = every_case(x)
    return prove_function(cell.net, function, values, known, cell.result)


def every_case(x: Value) -> tuple[np.ndarray, dict[int, np.ndarray]]:
    """Every value of the argument, and its nodes' values then."""
    values, known = (np.array([x]), {}) if isinstance(x, int) else every_value(x)
    need(len(values) > 0, "an argument without a value")
    return values, known


def prove_function(
    net: Net, function: Mapping[str, Any], values: np.ndarray, known: dict[int, np.ndarray], result: Value
) -> int:
    """result = function(value) in every case, where the known nodes cut the result off from all others."""
    defined = Function(**function)
    need(defined.lo <= values.min() and values.max() <= defined.hi, "an argument outside of the function's domain")
    wanted = [defined(int(v)) for v in values]
    need(holds(result, min(wanted), max(wanted)), "a function's value may leave its interval")
    need(bool(np.all(net.decode(result, known) == np.array(wanted))), "a function's value is wrong")
    return max(map(abs, wanted))


def one_hot(cell: Cell, index: Value, *, size: int) -> int:
    result = with_bits(cell.result)
    values, known = every_case(index)
    need(bool(values.min() >= 0), "a negative index")
    need(len(result.bits) == size and result.holds(0, 1 << (size - 1)), "a selector for each entry")
    cell.net.extend(known, (n for bit in result.bits for n in bit.nodes))
    for k, bit in enumerate(result.bits):
        found = bit.const + sum(w * known[n].astype(int) for n, w in zip(bit.nodes, bit.weights, strict=True))
        need(bool(np.all(found == (np.minimum(values, size - 1) == k))), "a selector is wrong")
    return 0  # nothing is computed with the power of two itself
