"""SiT (arXiv 2401.08740) and ARFlow (arXiv 2501.16085) inference: the one source that every interpreter runs.

Letters as in dit_spec.py. Euler steps from t = 0 (noise) to t = 1 (data). With guidance everything runs for the class
and for the null label, and the velocity is s v_class + (1 - s) v_null. In an ARFlow each step leaves its state to the
next, also the null half of a step without guidance.
"""

from itertools import pairwise

import numpy as np

from flowgression.circuits.dit_spec import DiTSpec
from flowgression.circuits.lower.attention import attention
from flowgression.circuits.lower.basics import layer_norm, mlp, move, of_label, part, to_pixels, to_tokens
from flowgression.circuits.lower.fixed import Fixed, Value, activation, add, constant, fixed, linear, multiply_add
from flowgression.circuits.lower.hybrid import hybrid_layer
from flowgression.circuits.lower.ops import Ops, Tensor


def dit(ops: Ops, spec: DiTSpec, label: Tensor, noise: Value) -> Fixed:
    """label [...] and noise [..., H W, C] -> image [..., H W, C], pixels row by row."""
    labels = (label, None) if spec.guided else (label,)
    classes = [of_label(ops, each, spec.arrays["class_embed"]) for each in labels]
    states: list[list[object]] = [[None] * spec.depth for _ in labels]
    x = fixed(ops, noise).map(lambda data: to_tokens(data, spec.grid, spec.patch_size))
    for n, (time, following) in enumerate(pairwise(spec.times)):
        scale = spec.guidance_at(time) if spec.guided else 1.0
        running = len(labels) if scale != 1.0 or spec.context is not None else 1
        found = [velocity(ops, spec, x, classes[h], states[h], n) for h in range(running)]
        parts = (scale, 1 - scale) if scale != 1.0 else (1.0,)
        step = following - time
        x = move(ops, x, [(step * share, v) for share, v in zip(parts, found, strict=False)], "state")
    return x.map(lambda data: to_pixels(data, spec.grid, spec.patch_size))


def velocity(ops: Ops, spec: DiTSpec, x: Fixed, label: Fixed, states: list[object], step: int) -> Fixed:
    """Velocity [..., T, E] of tokens x; `states` is replaced in place."""
    arrays, width = spec.arrays, spec.width
    condition = add(ops, label, constant(ops, arrays["time"][step]), "condition")
    opened = activation(ops, condition, "silu", "silu")
    x = linear(ops, x, arrays["patch.w"], arrays["patch.b"], "patch")
    x = add(ops, x, constant(ops, arrays["position"]), "tokens")
    for i in range(spec.depth):
        weights, name = part(arrays, f"block{i}"), f"block{i}"
        bias = weights["modulation.b"] + np.repeat([0.0, 1.0, 0.0] * 2, width)
        modulation = linear(ops, opened, weights["modulation.w"], bias, f"{name}.modulation")
        shift1, scale1, gate1, shift2, scale2, gate2 = modulation.split(6)
        inner = multiply_add(ops, layer_norm(ops, x, f"{name}.norm1"), scale1, shift1, f"{name}.modulated1")
        if spec.context is None:
            mixed, _ = attention(ops, inner, weights, spec.num_heads, name=f"{name}.attn")
        else:
            settings = (weights, spec.num_heads, spec.context)
            mixed, states[i] = hybrid_layer(ops, inner, condition, *settings, states[i], f"{name}.attn")
        x = multiply_add(ops, gate1, mixed, x, f"{name}.x1")
        inner = multiply_add(ops, layer_norm(ops, x, f"{name}.norm2"), scale2, shift2, f"{name}.modulated2")
        x = multiply_add(ops, gate2, mlp(ops, inner, weights, "gelu_tanh", f"{name}.mlp"), x, f"{name}.x2")
    bias = arrays["final_modulation.b"] + np.repeat([0.0, 1.0], width)
    shift, scale = linear(ops, opened, arrays["final_modulation.w"], bias, "final_modulation").split(2)
    x = multiply_add(ops, layer_norm(ops, x, "final_norm"), scale, shift, "final_modulated")
    return linear(ops, x, arrays["final.w"], arrays["final.b"], "velocity")
