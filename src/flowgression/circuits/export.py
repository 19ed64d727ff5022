"""Circuits in the formats of other tools: Verilog, BLIF, and pseudo-Boolean constraints (OPB).

Input bit k is x[k] in Verilog, x{k} in BLIF and x{k+1} in OPB, in the order of the input ports; gate k is g{k}, in OPB
x{N+k+1} with N input bits; output bits are y[k] and y{k}.
"""

from collections.abc import Callable, Iterator

import numpy as np

from flowgression.circuits.ir import Circuit
from flowgression.errors import InputError, did_you_mean

Row = list[tuple[int, int]]
"""(node, weight)."""


def banks(circuit: Circuit) -> Iterator[tuple[int, Row, list[tuple[int, int]]]]:
    """Number of each row, its (node, weight) pairs, and (gate, theta) of its gates."""
    starts = np.searchsorted(circuit.gate_row, np.arange(len(circuit.row_ptr))).tolist()
    theta = circuit.theta.tolist()
    for row in range(len(circuit.row_ptr) - 1):
        span = slice(circuit.row_ptr[row], circuit.row_ptr[row + 1])
        pairs = list(zip(circuit.row_idx[span].tolist(), circuit.row_w[span].tolist(), strict=True))
        yield row, pairs, [(gate, theta[gate]) for gate in range(starts[row], starts[row + 1])]


def verilog(circuit: Circuit, name: str = "circuit") -> Iterator[str]:
    """A module of continuous assignments: one sum for every bank, one comparison for every gate.

    Negative weights are taken of negated inputs, so that all sums are unsigned.
    """
    inputs = circuit.num_inputs

    def node(n: int) -> str:
        return f"x[{n}]" if n < inputs else f"g{n - inputs}"

    yield f"module {name}(input [{inputs - 1}:0] x, output [{len(circuit.outputs) - 1}:0] y);\n"
    for row, pairs, gates in banks(circuit):
        width = max(sum(abs(w) for _, w in pairs).bit_length(), 1)
        terms = []
        for n, w in pairs:
            bit = node(n) if w > 0 else f"!{node(n)}"
            terms.append(f"({width}'d{abs(w)} & {{{width}{{{bit}}}}})")
        total = " + ".join(terms) or f"{width}'d0"
        yield f"  wire [{width - 1}:0] s{row} = {total};\n"
        below = sum(-w for _, w in pairs if w < 0)
        for gate, theta in gates:
            yield f"  wire g{gate} = s{row} >= {width}'d{theta + below};\n"
    for k, n in enumerate(circuit.outputs.tolist()):
        yield f"  assign y[{k}] = {node(n)};\n"
    yield "endmodule\n"


def opb(circuit: Circuit) -> Iterator[str]:
    """Two linear inequalities for every gate: its sum reaches theta if and only if its variable is 1.

    The solutions are exactly the circuit's evaluations; add an objective or constraints to search among its inputs.
    """
    inputs, outputs = circuit.num_inputs, circuit.outputs.tolist()
    yield f"* #variable= {inputs + circuit.num_gates} #constraint= {2 * circuit.num_gates}\n"
    yield f"* inputs x1 ... x{inputs}; outputs {' '.join(f'x{n + 1}' for n in outputs)}\n"
    for _, pairs, gates in banks(circuit):
        low, high = (sum(sign * max(sign * w, 0) for _, w in pairs) for sign in (-1, 1))
        positive = " ".join(f"{w:+d} x{n + 1}" for n, w in pairs)
        negative = " ".join(f"{-w:+d} x{n + 1}" for n, w in pairs)
        for gate, theta in gates:
            own = f"x{inputs + gate + 1}"
            yield f"{positive} {low - theta:+d} {own} >= {low};\n"
            yield f"{negative} {high - theta + 1:+d} {own} >= {1 - theta};\n"


def blif(circuit: Circuit, name: str = "circuit") -> Iterator[str]:
    """Logic of two and three inputs: each comparison is decided node by node, by what the others must still reach.

    A bank of fan-in m and weights of sum W takes at most m W tables, shared by all its gates.
    """
    inputs = circuit.num_inputs

    def node(n: int) -> str:
        return f"x{n}" if n < inputs else f"g{n - inputs}"

    yield f".model {name}\n"
    yield f".inputs {' '.join(f'x{k}' for k in range(inputs))}\n"
    yield f".outputs {' '.join(f'y{k}' for k in range(len(circuit.outputs)))}\n"
    for row, pairs, gates in banks(circuit):
        order = sorted(pairs, key=lambda pair: -abs(pair[1]))
        weights = [w for _, w in order]
        low = [sum(w for w in weights[i:] if w < 0) for i in range(len(weights) + 1)]
        high = [sum(w for w in weights[i:] if w > 0) for i in range(len(weights) + 1)]
        wanted = {theta for _, theta in gates}
        for i, (n, w) in enumerate(order):
            following: set[int] = set()
            for need in sorted(wanted):
                if low[i] < need <= high[i]:
                    yes, no = f"r{row}_{i + 1}_{need - w}", f"r{row}_{i + 1}_{need}"
                    following |= {need - w, need}
                    yield f".names {node(n)} {yes} {no} r{row}_{i}_{need}\n11- 1\n0-1 1\n".replace("_-", "_m")
                else:
                    yield _fixed(f"r{row}_{i}_{need}", need <= low[i])
            wanted = following
        for need in sorted(wanted):
            yield _fixed(f"r{row}_{len(order)}_{need}", need <= 0)
        for gate, theta in gates:
            yield f".names r{row}_0_{theta} g{gate}\n1 1\n".replace("_-", "_m")
    for k, n in enumerate(circuit.outputs.tolist()):
        yield f".names {node(n)} y{k}\n1 1\n"
    yield ".end\n"


def _fixed(name: str, value: bool) -> str:
    return f".names {name.replace('_-', '_m')}\n" + ("1\n" if value else "")


FORMATS: dict[str, Callable[[Circuit], Iterator[str]]] = {"verilog": verilog, "opb": opb, "blif": blif}
SUFFIXES = {"verilog": ".v", "opb": ".opb", "blif": ".blif"}


def export(circuit: Circuit, format: str) -> Iterator[str]:
    """The circuit's text, piece by piece. Raises InputError for an unknown format."""
    if format not in FORMATS:
        raise InputError(f"format is {format!r}; {did_you_mean(format, FORMATS)}")
    return FORMATS[format](circuit)
