"""A FlowAR with its inputs and outputs as text, for the extracted model of proofs/ (proofs/numbers.ml reads it).

python -m tests.circuits.flowar_numbers MODEL SAMPLES FILE
"""

import json
import sys
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flowgression.circuits import FlowARSpec, Precision, flowar_program, random_spec
from flowgression.circuits.arithmetic.functions import function as tabulated
from flowgression.circuits.claim import claim
from flowgression.circuits.compile import interpret
from flowgression.circuits.flowar_spec import mlp_width
from flowgression.circuits.programs import Program
from flowgression.circuits.proof.model import evaluate, read_model


def write(path: Path, program: Program, model: list[str], precision: Precision, samples: int, meant: int) -> None:
    """Random inputs with the integer interpreter's outputs; on the first `meant` of them meaning.py gives the same."""
    generator = np.random.default_rng(0)
    ends = {
        name: (precision.low, precision.high + 1) if x.limit is None else (0, x.limit)
        for name, x in program.inputs.items()
    }
    inputs = {name: generator.integers(*ends[name], (samples, *x.shape)) for name, x in program.inputs.items()}
    outputs = interpret(program, precision, inputs).outputs["image"].reshape(samples, -1)
    claimed = read_model(json.loads(json.dumps(claim(program, precision))))
    for i in range(meant):
        given = {name: values[i].reshape(-1).tolist() for name, values in inputs.items()}
        assert evaluate(claimed, given)["image"] == outputs[i].tolist()
    flat = np.concatenate([each.reshape(samples, -1) for each in inputs.values()], axis=1)
    rows = [numbers(row) for pair in zip(flat, outputs, strict=True) for row in pair]
    path.write_text("\n".join([*model, str(samples), *rows]) + "\n")


def numbers(values: Iterable[Any]) -> str:
    found = [int(v) for v in values]
    return " ".join(map(str, [len(found), *found]))


class Words:
    """Arrays and functions of a model as text."""

    def __init__(self, precision: Precision, arrays: dict[str, np.ndarray]):
        self.precision, self.arrays = precision, arrays

    def vector(self, values: np.ndarray) -> str:
        return numbers(self.precision.quantise(values))

    def table(self, values: np.ndarray, fraction: int | None = None) -> str:
        flat = values.reshape(values.shape[0], -1)
        return " ".join(map(str, [*flat.shape, *self.precision.quantise(flat, fraction).reshape(-1).tolist()]))

    def linear(self, name: str, scale: Any = 1.0, plus: Any = 0.0) -> str:
        """scale: of the outputs; plus: added to the biases, which may be missing."""
        weight = self.arrays[f"{name}.w"] * np.broadcast_to(scale, len(self.arrays[f"{name}.w"]))[:, None]
        own = self.precision.weight_fraction(weight)
        bias = self.arrays.get(f"{name}.b", np.zeros(len(weight)))
        return f"{self.table(weight, own)} {self.vector(bias * scale + plus)} {own}"

    def function(self, name: str, lo: int, hi: int, fractions: tuple[int, int], scale: float = 1.0) -> str:
        return f"{lo} {numbers(tabulated(name, lo, hi, *fractions, scale).values)}"

    def root(self, length: float) -> str:
        bits = self.precision.bits
        return self.function("rsqrt", 1 << bits, (4 << bits) - 1, (bits, bits), length)

    def arithmetic(self, gelu: str, widths: set[int]) -> list[str]:
        """The format and its functions; widths: of normalised vectors."""
        p = self.precision
        return [
            f"{p.bits} {p.f}",
            *(self.function(name, p.low, p.high, (p.f, p.f)) for name in ("exp", "silu", gelu)),
            self.function("reciprocal", 1 << p.bits, (2 << p.bits) - 1, (p.bits, p.bits)),
            str(len(widths)),
            *(f"{d} {self.root(float(np.sqrt(d)))}" for d in widths),
        ]


def _model(spec: FlowARSpec, p: Precision) -> list[str]:
    words = Words(p, spec.arrays)
    vector, table, linear = words.vector, words.table, words.linear
    arrays, width, wide = spec.arrays, spec.width, spec.flow_width

    def layers(name: str, size: int, heads: int) -> str:
        scale = np.where(np.arange(3 * size) < size, (size // heads) ** -0.5, 1.0)
        parts = [linear(f"{name}.{part}") for part in ("proj", "gate", "value", "out")]
        return " ".join([linear(f"{name}.qkv", scale), *parts])

    def block(i: int) -> str:
        return f"{layers(f'block{i}', width, spec.num_heads)} {table(arrays[f'block{i}.modulation'] + ones(width))}"

    def ones(size: int) -> np.ndarray:
        return np.repeat([0.0, 0.0, 1.0, 1.0, 0.0, 0.0], size)

    starts = np.cumsum([0, *spec.tokens])

    def rotations(name: str) -> list[str]:
        """All of them, and for each scale's first token the fraction bits of that scale's."""
        parts = [arrays[name][a:b] for a, b in pairwise(starts)]
        owns = [p.weight_fraction(part) for part in parts]
        rows = [table(part, own).split(" ") for part, own in zip(parts, owns, strict=True)]
        whole = " ".join([str(starts[-1]), rows[0][1], *(" ".join(row[2:]) for row in rows)])
        return [whole, numbers(np.repeat(owns, spec.tokens))]

    def coefficients(k: int, time: float, following: float) -> list[int]:
        scale = spec.guidance_at(k, time) if spec.guided else 1.0
        shares = (scale, 1 - scale) if spec.guided else (1.0,)
        return [round((time - following) * share * 256) for share in shares]

    hidden = mlp_width(width)
    head, flow_head = width // spec.num_heads, wide // spec.flow_num_heads
    steps = list(pairwise(spec.times))
    blocks = [block(i) for i in range(spec.depth)]
    flow = [
        f"{layers(f'flow{i}', wide, spec.flow_num_heads)} {linear(f'flow{i}.modulation', plus=ones(wide))}"
        for i in range(spec.flow_depth)
    ]
    resampled = [arrays[f"resample{k}"] for k in range(1, len(spec.scales))]
    return [
        "flowgression-numbers-1",
        *words.arithmetic("gelu", {width, wide}),
        numbers(spec.tokens),
        f"{spec.channels} {spec.num_heads} {head // 2} {hidden}",
        f"{spec.flow_num_heads} {flow_head // 2} {mlp_width(wide)}",
        numbers([-1, spec.num_classes - 1] if spec.guided else [-1]),
        table(arrays["class_embed"]), linear("input"), vector(arrays["input_norm"]),
        table(arrays["encoder_position"]), str(spec.encoder_depth), *blocks[: spec.encoder_depth],
        vector(arrays["encoder_norm"]),
        linear("decoder_proj"), table(arrays["decoder_position"]), str(spec.decoder_depth),
        *blocks[spec.encoder_depth :], vector(arrays["decoder_norm"]), table(arrays["semantics_position"]),
        *rotations("rotation"), *rotations("flow_rotation"),
        linear("condition"), table(arrays["time"]), linear("flow_input"), str(len(flow)), *flow,
        linear("final", plus=np.repeat([0.0, 1.0], wide)), linear("output"),
        str(len(resampled)), *(f"{table(m, p.weight_fraction(m))} {p.weight_fraction(m)}" for m in resampled),
        str(len(steps)),
        str(len(spec.scales)),
        *(
            " ".join([str(len(steps)), *(numbers(coefficients(k, *step)) for step in steps)])
            for k in range(len(spec.scales))
        ),
    ]  # fmt: skip


MODELS = {"flowar": ((1, 2), 1.0), "guided": ((1, 2, 3), 2.5)}
"""Scales and guidance."""


def model(scales: tuple[int, ...], guidance: float) -> FlowARSpec:
    sizes: dict[str, Any] = {"channels": 1, "width": 2, "flow_width": 4, "flow_num_heads": 2, "num_classes": 3}
    return random_spec(0, scales=scales, times=(0.0, 0.5, 1.0), guidance_scale=guidance, **sizes)


def text(name: str, samples: int, path: Path, meant: int = 3) -> None:
    """One of MODELS, at p = 8."""
    spec, precision = model(*MODELS[name]), Precision(8)
    write(path, flowar_program(spec), _model(spec, precision), precision, samples, meant)


if __name__ == "__main__":
    text(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
