"""Programs that can be compiled by name: single layers with random weights, and whole FlowAR models.

Letters: n side of a square map, so n^2 tokens; D width; a program's weights come from the seed alone.
"""

from collections.abc import Callable
from typing import Any

import numpy as np

from flowgression.circuits.claim import sizes_of, weights_digest
from flowgression.circuits.compile import Input, Program
from flowgression.circuits.dit_spec import DiTSpec
from flowgression.circuits.flowar_spec import FlowARSpec, mlp_width
from flowgression.circuits.kinds import Attention, Polynomial
from flowgression.circuits.lower import attention, basics, blocks, fixed
from flowgression.circuits.lower.dit import dit
from flowgression.circuits.lower.fixed import Fixed, activation, add, matmul
from flowgression.circuits.lower.ops import Ops
from flowgression.circuits.lower.scalewise import draw_maps
from flowgression.errors import InputError, did_you_mean

Weights = dict[str, np.ndarray]
MAX_TAU = 2.0
"""The bound on the logits of the low-rank layer, that of the presets."""
EXP_POLYNOMIAL = (1.269393359605191, 1.3046459782691502, 0.37795956995045005)
"""Constant first, of the polynomial of degree 2 in place of exp on [-MAX_TAU, MAX_TAU]: `ops.lowrank.minimax_exp`."""
Body = Callable[[Ops, dict[str, Any]], dict[str, Any]]


def flowar_program(spec: FlowARSpec, all_scales: bool = False) -> Program:
    """Whole inference: inputs `label` and `noise1` ... `noiseK` [s_k^2, P P C], output `image` [(s_K P)^2, C] (and the
    coarser maps `map1`, ... on demand).
    """
    inputs = {"label": Input((), spec.num_classes)}
    for k, count in enumerate(spec.tokens):
        inputs[f"noise{k + 1}"] = Input((count, spec.token_channels), value="state")

    def body(ops: Ops, tensors: dict[str, Any]) -> dict[str, Any]:
        maps = draw_maps(ops, spec, tensors["label"], [tensors[f"noise{k + 1}"] for k in range(len(spec.scales))])
        coarse = {f"map{k + 1}": m for k, m in enumerate(maps[:-1])} if all_scales else {}
        return coarse | {"image": maps[-1]}

    sizes = ",".join(map(str, spec.scales))
    family = f"Fast{spec.name}" if spec.polynomial_coefficients is not None else spec.name
    return Program(f"{spec.name}({sizes})", inputs, body, _about(family, spec))


def _about(family: str, spec: Any) -> dict[str, str]:
    weights = f"SHA-256 {weights_digest(spec.arrays)} of the arrays" if spec.arrays else "none"
    return {"family": family, "sizes": sizes_of(spec), "weights": weights}


def dit_program(spec: DiTSpec) -> Program:
    """Whole inference of a SiT or ARFlow: inputs `label` and `noise` [H W, C], output `image` [H W, C]."""
    inputs = {"label": Input((), spec.num_classes), "noise": Input((spec.pixels, spec.channels), value="state")}

    def body(ops: Ops, tensors: dict[str, Any]) -> dict[str, Any]:
        return {"image": dit(ops, spec, tensors["label"], tensors["noise"])}

    return Program(f"{spec.name}({spec.grid[0]}x{spec.grid[1]})", inputs, body, _about(spec.name, spec))


def layer_program(name: str, n: int = 2, width: int = 4, seed: int = 0) -> Program:
    """One layer on an n x n map of the given width; input `x` [n^2, D], output `y`. Raises InputError for unknown
    names.
    """
    if name not in LAYERS:
        raise InputError(f"unknown layer {name!r}; {did_you_mean(name, LAYERS)}")
    if n < 1 or width < 2 or width % 2:
        raise InputError(f"n is {n} and width {width}, expected n >= 1 and an even width >= 2.")
    generator = np.random.default_rng(seed)
    inputs, body = LAYERS[name](n, width, generator)
    about = {"family": f"layer {name}", "sizes": f"n={n}, width={width}", "weights": f"random, seed {seed}"}
    return Program(f"{name}(n={n}, width={width})", inputs, body, about)


def _weights(generator: np.random.Generator, **shapes: tuple[int, int]) -> Weights:
    weights = {}
    for name, (out, inner) in shapes.items():
        weights[f"{name}.w"] = generator.standard_normal((out, inner)) / np.sqrt(inner)
        weights[f"{name}.b"] = 0.3 * generator.standard_normal(out)
    return weights


def _one_input(shape: tuple[int, ...], apply: Callable[[Ops, Fixed], Fixed]) -> tuple[dict[str, Input], Body]:
    return {"x": Input(shape)}, lambda ops, tensors: {"y": apply(ops, tensors["x"])}


def _linear(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    w = _weights(generator, fc=(width, width))
    return _one_input((n * n, width), lambda ops, x: fixed.linear(ops, x, w["fc.w"], w["fc.b"]))


def _matmul(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    inputs = {"a": Input((n * n, width)), "b": Input((n * n, width))}
    return inputs, lambda ops, t: {"y": matmul(ops, t["a"], t["b"], "y")}


def _mlp(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    w = _weights(generator, fc1=(2 * width, width), fc2=(width, 2 * width))
    return _one_input((n * n, width), lambda ops, x: basics.mlp(ops, x, w))


def _feed_forward(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    hidden = mlp_width(width)
    w = _weights(generator, gate=(hidden, width), value=(hidden, width), out=(width, hidden))
    return _one_input((n * n, width), lambda ops, x: add(ops, x, basics.gated_mlp(ops, x, w)))


def _attention(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    """As in the paper: projections to queries, keys and values and softmax(q k^T) v."""
    w = _weights(generator, qkv=(3 * width, width))

    def apply(ops: Ops, x: Fixed) -> Fixed:
        q, k, v = fixed.linear(ops, x, w["qkv.w"], w["qkv.b"]).split(3)
        return attention.softmax_attention(ops, q, k, v)

    return _one_input((n * n, width), apply)


def _low_rank(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    """As in FastFlowAR: unit queries and keys, a factor tau, a key mean, the minimax polynomial of degree 2."""
    w = _weights(generator, qkv=(3 * width, width))
    kind = Attention(cosine=True, polynomial=Polynomial(EXP_POLYNOMIAL, n * n))
    head = {"tau": np.array([0.75 * MAX_TAU]), "centre": 0.3 * generator.standard_normal((1, width))}

    def apply(ops: Ops, x: Fixed) -> Fixed:
        qkv = fixed.linear(ops, x, w["qkv.w"], w["qkv.b"])
        q, k, v = (part.map(lambda data: data[..., None, :, :]) for part in qkv.split(3))
        seen = attention.seen_tokens(ops, k, v, kind, head, "")
        return attention.attend(ops, q, seen, kind, head)[0][..., 0, :, :]

    return _one_input((n * n, width), apply)


def _block_parts(width: int, generator: np.random.Generator) -> tuple[Weights, int]:
    hidden = mlp_width(width)
    shapes = {"qkv": (3 * width, width), "proj": (width, width), "gate": (hidden, width), "value": (hidden, width)}
    return _weights(generator, **shapes, out=(width, hidden), modulation=(6 * width, width)), 1


def _flow_block(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    """Spatial-adaLN: x and the condition of every position."""
    w, heads = _block_parts(width, generator)
    turns = np.tile(np.eye(2), (n * n, width // 2, 1, 1))
    inputs = {"x": Input((n * n, width)), "condition": Input((n * n, width))}

    def body(ops: Ops, tensors: dict[str, Any]) -> dict[str, Any]:
        silu = activation(ops, tensors["condition"], "silu", "silu")
        modulation = fixed.linear(ops, silu, w["modulation.w"], w["modulation.b"])
        return {"y": blocks.modulated_block(ops, tensors["x"], modulation, w, heads, turns)[0]}

    return inputs, body


def _euler(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    inputs = {"x": Input((n * n, width)), "velocity": Input((n * n, width))}
    return inputs, lambda ops, t: {"y": basics.euler_step(ops, t["x"], t["velocity"], -0.25)}


def _up(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    return _one_input((n * n, width), lambda ops, x: basics.resample(ops, x, bicubic_matrix(n, 2 * n)))


def _down(n: int, width: int, generator: np.random.Generator) -> tuple[dict[str, Input], Body]:
    return _one_input((4 * n * n, width), lambda ops, x: basics.resample(ops, x, area_matrix(2 * n, n)))


def _norm(apply: Callable[[Ops, Fixed], Fixed]) -> Callable[..., tuple[dict[str, Input], Body]]:
    return lambda n, width, generator: _one_input((n * n, width), apply)


LAYERS: dict[str, Callable[[int, int, np.random.Generator], tuple[dict[str, Input], Body]]] = {
    "matmul": _matmul,
    "linear": _linear,
    "mlp": _mlp,
    "feed-forward": _feed_forward,
    "attention": _attention,
    "low-rank-attention": _low_rank,
    "rms-norm": _norm(basics.rms_norm),
    "layer-norm": _norm(basics.layer_norm),
    "up-sampling": _up,
    "down-sampling": _down,
    "flow-block": _flow_block,
    "euler-step": _euler,
}


def bicubic_matrix(side: int, new_side: int) -> np.ndarray:
    """Bicubic resampling (Keys, a = -0.75, edges repeated, half-pixel centres) of square maps as [new_side^2,
    side^2].
    """
    axis = np.zeros((new_side, side))
    for i in range(new_side):
        centre = (i + 0.5) * side / new_side - 0.5
        base = int(np.floor(centre))
        for j in range(base - 1, base + 3):
            axis[i, min(max(j, 0), side - 1)] += _keys(abs(centre - j))
    return np.kron(axis, axis)


def _keys(x: float, a: float = -0.75) -> float:
    if x <= 1:
        return ((a + 2) * x - (a + 3)) * x * x + 1
    return ((a * x - 5 * a) * x + 8 * a) * x - 4 * a if x < 2 else 0.0


def area_matrix(side: int, new_side: int) -> np.ndarray:
    """Means over windows of a square map whose side is a multiple of the new one, as [new_side^2, side^2]."""
    if side % new_side:
        raise InputError(f"side {side} is no multiple of {new_side}.")
    axis = np.kron(np.eye(new_side), np.full((1, side // new_side), new_side / side))
    return np.kron(axis, axis)
