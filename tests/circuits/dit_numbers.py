"""A SiT or ARFlow with its inputs and outputs as text, for the extracted model of proofs/ (proofs/numbers.ml reads it).

python -m tests.circuits.dit_numbers MODEL SAMPLES FILE
"""

import math
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np

from flowgression.circuits import DiTSpec, Precision, dit_program, random_dit
from flowgression.circuits.lower.hybrid import GATE_TEMPERATURE
from tests.circuits.flowar_numbers import Words, numbers, write


def _model(spec: DiTSpec, p: Precision) -> list[str]:
    words, arrays, width = Words(p, spec.arrays), spec.arrays, spec.width
    table, linear = words.table, words.linear
    head = width // spec.num_heads

    def block(i: int) -> str:
        if spec.context is None:
            scale = np.where(np.arange(3 * width) < width, head**-0.5, 1.0)
            mixer = [linear(f"block{i}.qkv", scale), linear(f"block{i}.proj")]
        else:
            mixer = [linear(f"block{i}.{part}") for part in ("q", "k", "v", "g", "gt", "out")]
        modulation = linear(f"block{i}.modulation", plus=np.repeat([0.0, 1.0, 0.0] * 2, width))
        return " ".join([modulation, *mixer, linear(f"block{i}.fc1"), linear(f"block{i}.fc2")])

    def coefficients(time: float, following: float) -> list[int]:
        scale = spec.guidance_at(time) if spec.guided else 1.0
        return [round((following - time) * share * 256) for share in ((scale, 1 - scale) if scale != 1.0 else (1.0,))]

    return [
        "flowgression-dit-numbers-1",
        *words.arithmetic("gelu_tanh", {width, head}),
        f"{spec.grid[0]} {spec.grid[1]} {spec.patch_size} {spec.channels} {spec.num_heads} {head} {spec.mlp_width}",
        numbers([-1, spec.num_classes - 1] if spec.guided else [-1]),
        table(arrays["class_embed"]), table(arrays["time"]), linear("patch"), table(arrays["position"]),
        str(int(spec.context is not None)), str(spec.depth), *(block(i) for i in range(spec.depth)),
        linear("final_modulation", plus=np.repeat([0.0, 1.0], width)), linear("final"),
        str(len(spec.times) - 1), *(numbers(coefficients(*step)) for step in pairwise(spec.times)),
        *_decays(words, head, width, spec.tokens),
    ]  # fmt: skip


def _decays(words: Words, head: int, width: int, tokens: int) -> list[str]:
    """Functions and formats of the state, as lower/hybrid.py has them."""
    p = words.precision
    own = p.bits - 1 - math.ceil(math.log2((2.0 ** (p.bits - 1 - p.f) + 1) / GATE_TEMPERATURE))
    reach = max(0, p.bits - 1 - math.ceil(math.log2((p.bits + 1) * math.log(2))))
    common = max(own, reach)
    return [
        words.root(head**-0.5 * math.sqrt(width)),
        words.function("softplus_minus", p.low, p.high, (p.f, own), 1 / GATE_TEMPERATURE),
        words.function("exp_minus", 0, p.high, (reach, p.bits)),
        f"{common - own} {common - reach}",
        f"{round(np.ldexp(1 / tokens, common + p.bits - own).item())} {common + p.bits - reach}",
    ]


SIZES: dict[str, Any] = {"grid": (1, 2), "patch_size": 2, "width": 4, "num_heads": 2, "mlp_width": 3, "num_classes": 3}
SIZES |= {"times": (0.0, 0.3, 0.7, 1.0), "depth": 2}
MODELS: dict[str, dict[str, Any]] = {
    "sit": {"guidance_scale": 2.5, "guidance_interval": (0.2, 1.0)},
    "arflow": {"context": "hybrid", "grid": (2, 2), "patch_size": 1, "guidance_scale": 1.5},
}


def text(name: str, samples: int, path: Path, meant: int = 3) -> None:
    """One of MODELS, at p = 8."""
    spec, precision = random_dit(0, **(SIZES | MODELS[name])), Precision(8)
    write(path, dit_program(spec), _model(spec, precision), precision, samples, meant)


if __name__ == "__main__":
    text(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
