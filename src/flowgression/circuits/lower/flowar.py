"""FlowAR inference (arXiv 2412.15205), scale by scale: the one source that every interpreter runs.

Letters as in spec.py. Guidance is off (scale 1): the conditional model alone is compiled.
"""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np

from flowgression.circuits.lower.layers import (
    Memory,
    euler_step,
    linear,
    modulated_block,
    resample,
    rms_norm,
)
from flowgression.circuits.lower.ops import Ops, Tensor
from flowgression.circuits.spec import FlowARSpec


def flowar(ops: Ops, spec: FlowARSpec, label: Tensor, noise: Sequence[Tensor]) -> list[Tensor]:
    """Draw the maps of all scales: label [...] and noise [..., s_k^2, C] per scale -> maps [..., s_k^2, C], coarse
    to fine.
    """
    memories: list[Memory | None] = [None] * spec.depth
    modulations = [ops.lookup(label, class_modulation(ops, spec, i)) for i in range(spec.depth)]
    maps: list[Tensor] = []
    start = 0
    for k, count in enumerate(spec.tokens):
        here = slice(start, start + count)
        if k == 0:
            tokens = ops.lookup(label, ops.precision.quantise(spec.arrays["class_embed"])[:, None])
        else:
            seen = resample(ops, maps[-1], spec.arrays[f"resample{k}"])
            tokens = linear(ops, seen, spec.arrays["input.w"], spec.arrays["input.b"])
        semantics = transformer(ops, spec, tokens, modulations, memories, here)
        maps.append(integrate(ops, spec, noise[k], semantics, here))
        start += count
    return maps


def class_modulation(ops: Ops, spec: FlowARSpec, i: int) -> np.ndarray:
    """Integers [V, 1, 6 D]: a transformer block's modulation for each class, with the 1 added to the scales."""
    table = spec.arrays[f"block{i}.modulation"] + _ones_at_scales(spec.width)
    return ops.precision.quantise(table)[:, None]


def _ones_at_scales(width: int) -> np.ndarray:
    return np.repeat([0.0, 0.0, 1.0, 1.0, 0.0, 0.0], width)


def transformer(
    ops: Ops,
    spec: FlowARSpec,
    tokens: Tensor,
    modulations: Sequence[Tensor],
    memories: list[Memory | None],
    here: slice,
) -> Tensor:
    """Semantic map [..., T, D] of one scale from its input tokens; `memories` is extended in place."""
    arrays = spec.arrays
    x = ops.add(tokens, ops.parameter(arrays["encoder_position"][here]))
    x = weighted_norm(ops, x, arrays["input_norm"])
    for i in range(spec.depth):
        if i == spec.encoder_depth:
            x = weighted_norm(ops, x, arrays["encoder_norm"])
            x = linear(ops, x, arrays["decoder_proj.w"], arrays["decoder_proj.b"])
            x = ops.add(x, ops.parameter(arrays["decoder_position"][here]))
        weights = part(arrays, f"block{i}")
        x, memories[i] = modulated_block(
            ops, x, modulations[i], weights, spec.num_heads, arrays["rotation"][here], memories[i]
        )
    x = weighted_norm(ops, x, arrays["decoder_norm"])
    return ops.add(x, ops.parameter(arrays["semantics_position"][here]))


def weighted_norm(ops: Ops, x: Tensor, weight: np.ndarray) -> Tensor:
    """RMS norm times a learned weight [D]."""
    return ops.multiply(rms_norm(ops, x), ops.parameter(weight))


def integrate(ops: Ops, spec: FlowARSpec, noise: Tensor, semantics: Tensor, here: slice) -> Tensor:
    """Euler steps of the flow head from t = 1 (noise) to t = 0 (data): the map [..., T, C]."""
    condition = linear(ops, semantics, spec.arrays["condition.w"], spec.arrays["condition.b"])
    x = noise
    for n, (time, following) in enumerate(pairwise(spec.times)):
        velocity = flow_head(ops, spec, x, condition, n, here)
        x = euler_step(ops, x, velocity, following - time)
    return x


def flow_head(ops: Ops, spec: FlowARSpec, x: Tensor, condition: Tensor, step: int, here: slice) -> Tensor:
    """Velocity [..., T, C] of noised tokens x, given the condition [..., T, W] and the step's number."""
    arrays = spec.arrays
    both = ops.activation(ops.add(condition, ops.parameter(arrays["time"][step])), "silu")
    x = linear(ops, x, arrays["flow_input.w"], arrays["flow_input.b"])
    for i in range(spec.flow_depth):
        weights = part(arrays, f"flow{i}")
        bias = weights["modulation.b"] + _ones_at_scales(spec.flow_width)
        modulation = linear(ops, both, weights["modulation.w"], bias)
        x, _ = modulated_block(ops, x, modulation, weights, spec.flow_num_heads, arrays["flow_rotation"][here])
    one_more = np.repeat([0.0, 1.0], spec.flow_width)
    shift, scale = np.split(linear(ops, both, arrays["final.w"], arrays["final.b"] + one_more), 2, axis=-1)
    return linear(ops, ops.fused(rms_norm(ops, x), scale, shift), arrays["output.w"], arrays["output.b"])


def part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays of one block, without its name."""
    return {key[len(name) + 1 :]: value for key, value in arrays.items() if key.startswith(name + ".")}
