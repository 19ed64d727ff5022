"""FlowAR inference (arXiv 2412.15205), scale by scale: the one source that every interpreter runs.

Letters as in flowar_spec.py. With guidance everything runs twice, for the class and for the null label ("halves"), and
the velocity is s v_class + (1 - s) v_null with s = 1 + (guidance_scale - 1) (k - 1) / (K - 1) at scale k.

A value has one name, hence one format, at all scales, steps and halves.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np

from flowgression.circuits.flowar_spec import FlowARSpec
from flowgression.circuits.lower.attention import Memory, State, context_of
from flowgression.circuits.lower.basics import (
    move,
    of_label,
    part,
    resample,
    rms_norm,
    to_pixels,
    to_tokens,
    weighted_norm,
)
from flowgression.circuits.lower.blocks import cross_block, modulated_block
from flowgression.circuits.lower.fixed import (
    Fixed,
    Value,
    activation,
    add,
    constant,
    fixed,
    linear,
    multiply_add,
)
from flowgression.circuits.lower.ops import Ops, Tensor


@dataclass
class Half:
    """The class (label [...]) or the null label (None) of one image: its modulations and what its blocks remember."""

    label: Tensor | None
    modulations: list[Fixed]
    memories: list[Memory | State | None]


def draw_maps(ops: Ops, spec: FlowARSpec, label: Tensor, noise: Sequence[Value]) -> list[Fixed]:
    """Draw the maps of all scales: label [...] and noise [..., s_k^2, P P C] per scale -> pixels [..., (s_k P)^2, C],
    coarse to fine.
    """
    halves = [half(ops, spec, each) for each in ((label, None) if spec.guided else (label,))]
    maps: list[Fixed] = []
    start = 0
    for k, count in enumerate(spec.tokens):
        here = slice(start, start + count)
        semantics = []
        for each in halves:
            tokens = input_tokens(ops, spec, each, k, maps[-1] if k else None)
            semantics.append(transformer(ops, spec, tokens, each, here))
        drawn = integrate(ops, spec, fixed(ops, noise[k]), semantics, k, here)
        maps.append(Fixed(to_pixels(drawn.data, (spec.scales[k],) * 2, spec.patch_size), drawn.fraction))
        start += count
    return maps


def half(ops: Ops, spec: FlowARSpec, label: Tensor | None) -> Half:
    tables = [spec.arrays[f"block{i}.modulation"] + _ones(spec.width, 2, 4, 6) for i in range(spec.depth)]
    return Half(label, [of_label(ops, label, table) for table in tables], [None] * spec.depth)


def _ones(width: int, first: int, last: int, parts: int) -> np.ndarray:
    """1 for the parts first .. last - 1 of a modulation, its scales, and 0 elsewhere."""
    return np.repeat([float(first <= i < last) for i in range(parts)], width)


def input_tokens(ops: Ops, spec: FlowARSpec, each: Half, k: int, previous: Fixed | None) -> Fixed:
    """What scale k reads: the class at the first scale, else the resized map before it. [..., s_k^2 or 1, D]."""
    if previous is None:
        return of_label(ops, each.label, spec.arrays["class_embed"])
    seen = resample(ops, previous, spec.arrays[f"resample{k}"], "resized")
    sides = (spec.scales[k], spec.scales[k])
    seen = seen.map(lambda data: to_tokens(data, sides, spec.patch_size))
    return linear(ops, seen, spec.arrays["input.w"], spec.arrays["input.b"], "input")


def transformer(ops: Ops, spec: FlowARSpec, tokens: Value, each: Half, here: slice) -> Fixed:
    """Semantic map [..., T, D] of one scale from its input tokens; `each.memories` is extended in place."""
    arrays = spec.arrays
    x = add(ops, tokens, constant(ops, arrays["encoder_position"][here]), "encoder_input")
    x = weighted_norm(ops, x, arrays["input_norm"], "input_norm")
    for i in range(spec.depth):
        if i == spec.encoder_depth:
            x = weighted_norm(ops, x, arrays["encoder_norm"], "encoder_norm")
            x = linear(ops, x, arrays["decoder_proj.w"], arrays["decoder_proj.b"], "decoder_proj")
            x = add(ops, x, constant(ops, arrays["decoder_position"][here]), "decoder_input")
        x, each.memories[i] = modulated_block(
            ops,
            x,
            each.modulations[i],
            part(arrays, f"block{i}"),
            spec.num_heads,
            arrays["rotation"][here],
            each.memories[i],
            spec.attention(f"block{i}"),
            f"block{i}",
        )
    x = weighted_norm(ops, x, arrays["decoder_norm"], "decoder_norm")
    return add(ops, x, constant(ops, arrays["semantics_position"][here]), "semantics")


@dataclass
class Condition:
    """What a flow head knows of a scale: the condition [..., T, W] and keys and values for cross-attention."""

    embedded: Fixed
    contexts: list[Memory]


def integrate(ops: Ops, spec: FlowARSpec, noise: Fixed, semantics: Sequence[Fixed], k: int, here: slice) -> Fixed:
    """Steps of the flow heads from t = 0 (noise) to t = 1 (data): the map [..., T, P P C] of scale k.

    Euler's, x + h v, or with two heads Taylor's, x + h v + h^2 / 2 a. The networks' outputs are -v and -a, as the
    released flow heads' time runs from data to noise.
    """
    conditions = {head: [condition_of(ops, spec, each, here, head) for each in semantics] for head in spec.heads}
    x = noise
    for n, (time, following) in enumerate(pairwise(spec.times)):
        step, scale = following - time, spec.guidance_at(k, time)
        shares = [scale, 1 - scale] if scale != 1.0 else [1.0]
        terms = []
        for head, factor in zip(spec.heads, (-step, -(step**2) / 2), strict=False):
            used = conditions[head][: len(shares)]
            found = [flow_head(ops, spec, x, each, n, here, head) for each in used]
            terms += [(factor * share, each) for share, each in zip(shares, found, strict=True)]
        x = move(ops, x, terms, "state", math.ceil(math.log2(2 / step)) if spec.accelerated else 0)
    return x


def condition_of(ops: Ops, spec: FlowARSpec, semantics: Fixed, here: slice, head: str = "") -> Condition:
    arrays, contexts = spec.arrays, []
    embedded = linear(ops, semantics, arrays[f"{head}condition.w"], arrays[f"{head}condition.b"], f"{head}condition")
    for i in range(spec.flow_depth if spec.cross_attention else 0):
        name = f"{head}flow{i}"
        weights = part(arrays, name)
        normed = weighted_norm(ops, semantics, weights["semantics_norm"], f"{name}.semantics_norm")
        rotation, cross = arrays["flow_rotation"][here], f"{name}.cross"
        heads, kind = spec.flow_num_heads, spec.attention(cross)
        contexts.append(context_of(ops, normed, part(weights, "cross"), heads, rotation, kind, cross))
    return Condition(embedded, contexts)


def flow_head(
    ops: Ops, spec: FlowARSpec, x: Fixed, condition: Condition, step: int, here: slice, head: str = ""
) -> Fixed:
    """Velocity (or acceleration) [..., T, P P C] of noised tokens x, given the condition and the step's number."""
    arrays = spec.arrays if not head else part(spec.arrays, head[:-1])
    width, rotation = spec.flow_width, spec.arrays["flow_rotation"][here]
    both = add(ops, condition.embedded, constant(ops, arrays["time"][step]), f"{head}flow.condition")
    both = activation(ops, both, "silu", f"{head}flow.silu")
    x = linear(ops, x, arrays["flow_input.w"], arrays["flow_input.b"], f"{head}flow.input")
    for i in range(spec.flow_depth):
        weights, name = part(arrays, f"flow{i}"), f"{head}flow{i}"
        ones = _ones(width, 1, 2, 3) if spec.cross_attention else _ones(width, 2, 4, 6)
        bias = weights["modulation.b"] + ones
        modulation = linear(ops, both, weights["modulation.w"], bias, f"{name}.modulation")
        heads = (spec.flow_num_heads, rotation)
        if spec.cross_attention:
            by_time = constant(ops, weights["time_modulation"][step] + ones)
            context = condition.contexts[i]
            kinds = spec.attention(name), spec.attention(f"{name}.cross")
            x = cross_block(ops, x, by_time, modulation, context, weights, *heads, kinds, name)
        else:
            x, _ = modulated_block(ops, x, modulation, weights, *heads, None, spec.attention(name), name)
    bias = arrays["final.b"] + _ones(width, 1, 2, 2)
    shift, scale = linear(ops, both, arrays["final.w"], bias, f"{head}flow.final").split(2)
    x = multiply_add(ops, rms_norm(ops, x, f"{head}flow.final_norm"), scale, shift, f"{head}flow.modulated")
    return linear(ops, x, arrays["output.w"], arrays["output.b"], f"{head}velocity")
