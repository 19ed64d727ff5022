"""The blocks of the models, made of layers (basics.py, attention.py). Letters and sizes as there."""

import numpy as np

from flowgression.circuits.kinds import SOFTMAX, Attention
from flowgression.circuits.lower.attention import Memory, State, attention, cross_attention
from flowgression.circuits.lower.basics import Weights, gated_mlp, rms_norm, weighted_norm
from flowgression.circuits.lower.fixed import Fixed, Value, add, fixed, multiply_add
from flowgression.circuits.lower.ops import Ops


def modulated_block(
    ops: Ops,
    x: Value,
    modulation: Value,
    weights: Weights,
    num_heads: int,
    rotation: np.ndarray,
    memory: Memory | State | None = None,
    kind: Attention = SOFTMAX,
    name: str = "",
) -> tuple[Fixed, Memory | State]:
    """x + gamma1 Attn(norm(x) scale1 + shift1), then the gated MLP alike. x [..., T, D], modulation [..., T or 1, 6 D].

    Order gamma1, gamma2, scale1, scale2, shift1, shift2; the scales already hold the added 1. Two norms, four fused
    products of T D numbers, one attention, one gated MLP: depth 25 + 10 + 63 + 10 and 25 + 10 + 30 + 10.
    """
    gamma1, gamma2, scale1, scale2, shift1, shift2 = fixed(ops, modulation).split(6)
    x, memory = attention_branch(
        ops, fixed(ops, x), (gamma1, scale1, shift1), weights, num_heads, rotation, memory, kind, name
    )
    return mlp_branch(ops, x, (gamma2, scale2, shift2), weights, name), memory


def attention_branch(
    ops: Ops,
    x: Fixed,
    modulation: tuple[Fixed, Fixed, Fixed],
    weights: Weights,
    num_heads: int,
    rotation: np.ndarray,
    memory: Memory | State | None,
    kind: Attention,
    name: str,
) -> tuple[Fixed, Memory | State]:
    """x + gamma Attn(norm(x) scale + shift)."""
    gamma, scale, shift = modulation
    inner = multiply_add(ops, rms_norm(ops, x, f"{name}.norm1"), scale, shift, f"{name}.modulated1")
    mixed, memory = attention(ops, inner, weights, num_heads, rotation, memory, kind, f"{name}.attn")
    return multiply_add(ops, gamma, mixed, x, f"{name}.x1"), memory


def mlp_branch(ops: Ops, x: Fixed, modulation: tuple[Fixed, Fixed, Fixed], weights: Weights, name: str) -> Fixed:
    """x + gamma MLP(norm(x) scale + shift)."""
    gamma, scale, shift = modulation
    inner = multiply_add(ops, rms_norm(ops, x, f"{name}.norm2"), scale, shift, f"{name}.modulated2")
    return multiply_add(ops, gamma, gated_mlp(ops, inner, weights, f"{name}.mlp"), x, f"{name}.x2")


def cross_block(
    ops: Ops,
    x: Fixed,
    by_time: Fixed,
    by_condition: Fixed,
    context: Memory,
    weights: Weights,
    num_heads: int,
    rotation: np.ndarray,
    kinds: tuple[Attention, Attention],
    name: str,
) -> Fixed:
    """Attention modulated by the time, a look at the semantic map's keys and values, MLP modulated by the condition;
    kinds: of the attention and of the look.

    Modulations [..., T or 1, 3 W] in the order gamma, scale, shift, the 1 added to the scales. Depth 108 + 107 + 75.
    """
    gamma, scale, shift = by_time.split(3)
    x, _ = attention_branch(ops, x, (gamma, scale, shift), weights, num_heads, rotation, None, kinds[0], name)
    cross = {key[6:]: value for key, value in weights.items() if key.startswith("cross.")}
    normed = weighted_norm(ops, x, weights["cross_norm"], f"{name}.cross_norm")
    seen = cross_attention(ops, normed, context, cross, num_heads, rotation, kinds[1], f"{name}.cross")
    x = add(ops, x, seen, f"{name}.crossed")
    gamma, scale, shift = by_condition.split(3)
    return mlp_branch(ops, x, (gamma, scale, shift), weights, name)
