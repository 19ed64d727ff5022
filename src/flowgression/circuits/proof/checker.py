"""Checks a proof that a threshold circuit computes a model for every input. NumPy and the standard library alone.

    python -m flowgression.circuits.proof.checker FOLDER

FOLDER holds circuit.npz (gates) and certificate.json, which holds a model (meaning.py: what is claimed) and its proof:
the distinct cells with their arguments, results and a few intermediate bits; and the calls, in the gates' order, each a
cell with the numbers that it reads. Numbers are counted: the circuit's inputs first, then each call's results. Then

1. each distinct cell is right, by a rule for its operation (cells.py), on the gates of its first call;
2. every call's gates are those of its cell, node by node, with the nodes of the numbers it reads as inputs; those
   numbers have the bits and intervals that the cell was proved for;
3. run on tags, the calls give every output the expression that the model gives it.

By induction over the calls every number has its expression's value, for every input. Nothing that the compiler
says is believed: a false certificate can only be rejected. Exit status 0 only if the proof holds.
"""

import hashlib
import json
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.proof.cells import prove_cell
from flowgression.circuits.proof.files import Circuit, read_certificate, read_circuit
from flowgression.circuits.proof.meaning import Rejected, need, read_model
from flowgression.circuits.proof.wiring import Wiring

CIRCUIT, CERTIFICATE = "circuit.npz", "certificate.json"
FORMAT = "flowgression-certificate-1"
DAMAGE = (KeyError, IndexError, TypeError, ValueError, AttributeError, OverflowError, RecursionError, AssertionError)
"""What a damaged file may raise; it proves nothing then."""


class Report(NamedTuple):
    """What was proved: sizes, bits of the largest integer on the way, seconds of CPU, and what stays assumed."""

    gates: int
    input_bits: int
    cells: Counter[str]
    calls: int
    integer_bits: int
    assumed: int
    digest: str
    seconds: dict[str, float]

    def __str__(self) -> str:
        kinds = ", ".join(f"{count} {name}" for name, count in self.cells.most_common())
        spent = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in self.seconds.items())
        what = "every input" if not self.assumed else "every argument of the cells"
        lines = [
            f"PROVED for {what}: {self.gates:,} gates, {self.input_bits:,} input bits, "
            f"{sum(self.cells.values()):,} distinct cells in {self.calls:,} calls ({spent})",
            f"  cells: {kinds}",
            f"  integers on the way need at most {self.integer_bits} bits and a sign: none overflows int64",
            f"  trusted: the formulas of meaning.py; the model in {CERTIFICATE} (SHA-256 {self.digest[:16]}...); "
            "this checker, Python and NumPy",
        ]
        if self.assumed:
            lines.append(f"  assumed: {self.assumed} arguments lie in their intervals; no model was proved as a whole")
        return "\n".join(lines)


def main(arguments: Sequence[str]) -> int:
    if len(arguments) != 1:
        print(f"usage: python -m {__spec__.name if __spec__ else 'checker'} FOLDER", file=sys.stderr)
        return 2
    try:
        print(check_folder(arguments[0]))
    except (Rejected, OSError) as error:
        print(f"NOT PROVED: {error}", file=sys.stderr)
        return 1
    return 0


def check_folder(folder: str | Path) -> Report:
    """Check FOLDER/circuit.npz and FOLDER/certificate.json. Raises Rejected if they do not prove what they claim."""
    try:
        circuit = read_circuit(Path(folder) / CIRCUIT)
        certificate = read_certificate(Path(folder) / CERTIFICATE)
    except DAMAGE as error:
        raise Rejected(f"a file is damaged ({error!r})") from error
    return check(circuit, certificate)


def check(circuit: Circuit, certificate: Mapping[str, Any]) -> Report:
    """Raises Rejected if the certificate does not prove the circuit."""
    try:
        return _check(circuit, certificate)
    except DAMAGE as error:
        raise Rejected(f"the certificate is damaged ({error!r})") from error


def _check(circuit: Circuit, certificate: Mapping[str, Any]) -> Report:
    clock = [time.process_time()]
    need(certificate["format"] == FORMAT, f"the certificate is not of the format {FORMAT}")
    need(certificate["circuit"] == circuit.digest, "the certificate belongs to another circuit")
    model = read_model(certificate["model"])
    wiring = Wiring(circuit, model, certificate)
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
    wanted = wiring.numbering.outputs(model)
    need(found == wanted, "the circuit's calls are not the model's expression")
    clock.append(time.process_time())
    spent = dict(zip(("reading", "cells", "wiring"), np.diff(clock).tolist(), strict=True))
    kinds = Counter(form.cell.operation for form in forms)
    assumed = len(certificate.get("assumed", ()))
    digest = hashlib.sha256(json.dumps(certificate["model"], sort_keys=True).encode()).hexdigest()
    sizes = len(circuit.theta), circuit.num_inputs
    return Report(*sizes, kinds, len(certificate["calls"]), bound.bit_length(), assumed, digest, spent)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
