"""What is claimed of a circuit: the model by name and as expressions, made without a single gate.

`flowgression circuit digest` prints the claim's SHA-256; the checker (`proof/checker.py`) prints that of the claim it
proved. The same digest is the same model, whoever wrote the certificate.
"""

import dataclasses
import hashlib
from collections.abc import Iterable, Mapping
from typing import Any

import numpy as np

from flowgression.circuits.compile import Program, interpret, sample_inputs
from flowgression.circuits.lower.expressions import express
from flowgression.circuits.lower.precision import Precision

LONGEST = 1000
"""Characters of a text of a claim."""


def claim(program: Program, precision: Precision, wired: bool = True) -> dict[str, Any]:
    """The model of a certificate, as `proof.model.read_model` reads it. wired False: weights are inputs."""
    inputs = [(name, item.shape, item.width(precision), item.limit is None) for name, item in program.inputs.items()]
    if not wired:
        amount = sum(c.size for c in interpret(program, precision, sample_inputs(program, precision, 1)).constants)
        inputs += [("weights", (amount,), precision.bits, True)] if amount else []
    return {"name": name_of(program, precision, wired)} | express(program, inputs, precision)


def name_of(program: Program, precision: Precision, wired: bool = True) -> dict[str, str]:
    """The texts that say which model a claim is about."""
    about = {"family": program.name, "sizes": "none", "weights": "none"} | dict(program.about)
    if not wired:
        about["weights"] = f"inputs of {precision.bits} bits: every weight"
    about["formats"] = _formats(precision)
    return {key: shortened(value) for key, value in about.items()}


def _formats(precision: Precision) -> str:
    if precision.ranges is None:
        return f"{precision.bits} bits, {precision.f} of them behind the point"
    fractions = {name: precision.fraction_of(name) for name in sorted(precision.ranges)}
    ends = min(fractions.values(), default=0), max(fractions.values(), default=0)
    digest = hashlib.sha256(repr(sorted(fractions.items())).encode()).hexdigest()
    behind = f"with {ends[0]} to {ends[1]} bits behind the point"
    return f"{precision.bits} bits; {len(fractions)} named values by measured ranges {behind}, SHA-256 {digest}"


def shortened(text: str) -> str:
    """The text in printable ASCII; a long one by its beginning and the SHA-256 of the whole."""
    plain = " ".join(text.encode("ascii", "backslashreplace").decode().split())
    if len(plain) <= LONGEST:
        return plain
    return f"{plain[: LONGEST - 100]}... (SHA-256 of all: {hashlib.sha256(plain.encode()).hexdigest()})"


def sizes_of(spec: Any) -> str:
    """The sizes of a spec, in words."""
    names = [field.name for field in dataclasses.fields(spec) if field.name not in ("arrays", "title")]
    return ", ".join(f"{name}={getattr(spec, name)}" for name in names)


def weights_digest(arrays: Mapping[str, np.ndarray]) -> str:
    """The SHA-256 of named arrays: names, types, shapes and bytes, sorted by name."""
    return _digest((name, np.ascontiguousarray(arrays[name])) for name in sorted(arrays))


def _digest(arrays: Iterable[tuple[str, np.ndarray]]) -> str:
    digest = hashlib.sha256()
    for name, array in arrays:
        digest.update(repr((name, str(array.dtype), array.shape)).encode())
        digest.update(array.tobytes())
    return digest.hexdigest()
