"""Checks a proof that a threshold circuit computes a model for every input. NumPy and the standard library alone.

    python -m flowgression.circuits.proof.checker DIR

DIR holds circuit.npz (gates) and certificate.json, which holds a model (model.py: what is claimed) and its proof: the
distinct cells with their arguments, results and a few intermediate bits; and the calls, in the gates' order, each a
cell with the numbers that it reads. Numbers are counted: the circuit's inputs first, then each call's results. Then

1. each distinct cell is right, by a rule for its operation (cells.py), on the gates of its first call;
2. every call's gates are those of its cell, node by node, with the nodes of the numbers it reads as inputs; those
   numbers have the bits and intervals that the cell was proved for;
3. run on tags, the calls give every output the expression that the model gives it.

By induction over the calls every number has its expression's value, for every input. Nothing that the compiler
says is believed: a false certificate can only be rejected. Exit status 0 only if the proof holds, 1 if it does not, 2
for files that are none of the format (docs/circuits-format.md).
"""

import sys
import time
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.cells import prove_cell
from flowgression.circuits.proof.certificate import Call, Certificate, read_certificate
from flowgression.circuits.proof.files import Circuit, read_circuit, read_json_file
from flowgression.circuits.proof.model import Fresh, Input, Model
from flowgression.circuits.proof.schema import Damaged, Rejected, need
from flowgression.circuits.proof.wiring import Wiring

CIRCUIT, CERTIFICATE = "circuit.npz", "certificate.json"


class Report(NamedTuple):
    """What was proved. digest: SHA-256 of the claim; circuit_digest: of the circuit's file; integer_bits: of the
    largest integer on the way.
    """

    model: Model
    outputs: list[Input]
    gates: int
    input_bits: int
    depth: int
    cells: Counter[str]
    calls: int
    integer_bits: int
    fresh: list[Fresh]
    circuit_digest: str
    seconds: dict[str, float]

    @property
    def digest(self) -> str:
        return self.model.digest

    @property
    def assumed(self) -> int:
        """Fresh arguments, of a proof of cells alone."""
        return len(self.fresh)

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {label}" for label, count in self.cells.most_common())
        spent = ", ".join(f"{label} {seconds:.1f} s" for label, seconds in self.seconds.items())
        what = "every input" if not self.fresh else "every argument of the cells"
        words = self.model.name
        lines = [
            f"PROVED for {what}: {self.gates:,} gates of depth {self.depth:,}, {self.input_bits:,} input bits, "
            f"{sum(self.cells.values()):,} distinct cells in {self.calls:,} calls ({spent})",
            f"  claim: SHA-256 {self.digest}",
            f"  model: {words['family']}, {words['sizes']}",
            f"  weights: {words['weights']}",
            f"  numbers: {words['formats']}",
            f"  inputs: {_ports(self.model.inputs)}",
            f"  outputs: {_ports(self.outputs)}",
            f"  circuit: SHA-256 {self.circuit_digest}",
            f"  cells: {kinds or 'none'}",
            f"  integers on the way need at most {self.integer_bits} bits and a sign: none overflows int64",
            *self._assumptions(),
            "  trusted: the formulas of meaning.py; that the SHA-256 is that of the model meant, which `flowgression "
            "circuit digest` derives (the names are only what the file says); this checker, Python and NumPy",
        ]
        return "\n".join(lines)

    def _assumptions(self) -> list[str]:
        if not self.fresh:
            return []
        kinds = Counter(fresh[1:] for fresh in self.fresh).most_common()
        shown = "; ".join(f"{count} in {_interval(*kind)}" for kind, count in kinds)
        return [
            f"  assumed of {self.assumed} arguments: each has a value that the input or the result in its place can "
            f"have ({shown})",
            "  not proved: that a model's calls are these cells, rightly wired",
        ]


def _interval(lo: int, hi: int, one_hot: bool) -> str:
    return f"powers of two up to 2^{hi.bit_length() - 1}" if one_hot else f"{lo}..{hi}"


def _ports(ports: Sequence[Input]) -> str:
    shown = "; ".join(map(str, ports[:8]))
    return shown if len(ports) <= 8 else f"{shown}; and {len(ports) - 8} more"


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(f"usage: python -m {__spec__.name if __spec__ else 'checker'} DIR", file=sys.stderr)
        return 2
    try:
        report = check_folder(arguments[0])
    except Damaged as error:
        return _refuse("DAMAGED", error, 2)
    except Rejected as error:
        return _refuse("NOT PROVED", error, 1)
    except (Exception, MemoryError) as error:  # whatever a forged file does, it ends in one line
        return _refuse("NOT PROVED", f"the checker gave up ({type(error).__name__}: {error})", 1)
    print(report, flush=True)
    return 0


def _refuse(verdict: str, error: object, status: int) -> int:
    line = " ".join(str(error).split())
    print(f"{verdict}: {line[:400].encode('ascii', 'backslashreplace').decode()}", file=sys.stderr)
    return status


def check_folder(folder: str | Path) -> Report:
    """Check DIR/circuit.npz and DIR/certificate.json. Raises Damaged if they are no such files, Rejected if they do not
    prove what they claim.
    """
    circuit = read_circuit(Path(folder) / CIRCUIT)
    return check(circuit, read_json_file(Path(folder) / CERTIFICATE))


def check(circuit: Circuit, certificate: Any) -> Report:
    """Raises Damaged or Rejected unless the certificate, as JSON, proves the circuit."""
    clock = [time.process_time()]
    try:
        found = read_certificate(certificate)
    except RecursionError:
        raise Damaged("the certificate nests too deeply") from None
    try:
        return _check(circuit, found, clock)
    except RecursionError:
        raise Rejected("a proof that nests too deeply") from None


def _check(circuit: Circuit, certificate: Certificate, clock: list[float]) -> Report:
    wiring = Wiring(circuit, certificate)
    forms = wiring.first_calls()
    clock.append(time.process_time())
    bound = 0
    for k, form in enumerate(forms):
        try:
            bound = max(bound, prove_cell(form.cell))
        except Rejected as error:
            raise Rejected(f"cell {k} ({form.cell.operation}): {error}") from error
    clock.append(time.process_time())
    found = wiring.outputs(forms)
    wanted = wiring.numbering.outputs(certificate.model)
    need(found[0] == wanted[0], "the circuit's calls are not the model's expression")
    need(found[1] == wanted[1], "the circuit's fresh arguments are not the model's")
    clock.append(time.process_time())
    return Report(
        model=certificate.model,
        outputs=circuit.outputs,
        gates=len(circuit.theta),
        input_bits=circuit.num_inputs,
        depth=circuit.depth,
        cells=Counter(form.cell.operation for form in forms),
        calls=sum(isinstance(each, Call) for each in certificate.calls),
        integer_bits=bound.bit_length(),
        fresh=found[1],
        circuit_digest=circuit.digest,
        seconds=dict(zip(("reading", "cells", "wiring"), np.diff(clock).tolist(), strict=True)),
    )


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
