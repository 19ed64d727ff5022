"""Gated hybrid linear attention across images (ARFlow, arXiv 2501.16085, section 3), on named values.

Letters: T tokens of an image, A heads of width d, D = A d, p bits; M [..., A, d, d] the state that images leave.

The recurrence over tokens is unrolled, so that depth does not depend on T: with l_n = -log decay >= 0 of token n and
z_n = l_1 + ... + l_n, the decays of products are exp(-z_n), exp(-(z_n - z_m)) and exp(-z_T / T). All T prefix sums are
iterated additions: O(T^2) numbers enter them, as the scores do.
"""

import math
from typing import NamedTuple

import numpy as np

from flowgression.circuits.lower.attention import Memory, decaying, merge_heads, softmax_attention, split_heads
from flowgression.circuits.lower.basics import Weights, rms_norm
from flowgression.circuits.lower.fixed import (
    Fixed,
    activation,
    add,
    combine,
    concatenate,
    linear,
    matmul,
    multiply,
    multiply_add,
)
from flowgression.circuits.lower.ops import Ops

GATE_TEMPERATURE = 16.0
"""As in layers/hybrid_attention.py: log-decay = logsigmoid(gate) / 16."""


class Sums(NamedTuple):
    """z_n [..., A, T], exactly; `reach`: fraction bits that suffice wherever exp(-z) is not rounded to 0."""

    prefix: Fixed
    fraction: int


def hybrid_layer(
    ops: Ops, x: Fixed, condition: Fixed, weights: Weights, num_heads: int, context: str, state: object, name: str
) -> tuple[Fixed, object]:
    """The attention layer of ARFlow: x [..., T, D], condition [..., 1, D] -> [..., T, D] and the new state.

    Depth 9 + 25 for normalised queries, keys and values; beside them the gate 9 + 9 + 2 + 7 + 9 + 2; attention 53 and
    10; norm 25, gate 10, projection 9. The state adds 10 + 10 from image to image.
    """
    q, k, v = (linear(ops, x, weights[f"{part}.w"], name=f"{name}.{part}_raw") for part in "qkv")
    root = (x.shape[-1] // num_heads) ** -0.5
    normed = [rms_norm(ops, q, f"{name}.q"), rms_norm(ops, k, f"{name}.k", root), rms_norm(ops, v, f"{name}.v")]
    q, k, v = (split_heads(each, 1, num_heads)[0] for each in normed)
    gate = linear(ops, add(ops, x, condition, f"{name}.gate_in"), weights["gt.w"], name=f"{name}.gate")
    sums = prefix_sums(ops, gate.swapaxes(-1, -2), f"{name}.decay")
    mixed, state = CONTEXTS[context](ops, q, k, v, sums, state, name)
    opened = activation(ops, linear(ops, x, weights["g.w"], name=f"{name}.g"), "silu", f"{name}.silu")
    joined = multiply(ops, merge_heads(rms_norm(ops, mixed, f"{name}.out_norm")), opened, f"{name}.gated")
    return linear(ops, joined, weights["out.w"], name=f"{name}.out"), state


def prefix_sums(ops: Ops, gate: Fixed, name: str) -> Sums:
    """z_n of gates [..., A, T]. Depth 2 + 7. l = softplus(-gate) / 16 is below (range of the gate + 1) / 16."""
    bits = ops.precision.bits
    bound = (2.0 ** (bits - 1 - gate.fraction) + 1) / GATE_TEMPERATURE
    fraction = bits - 1 - math.ceil(math.log2(bound))
    p = ops.precision
    function = ops.function("softplus_minus", p.low, p.high, gate.fraction, fraction, 1 / GATE_TEMPERATURE)
    logs = ops.apply(gate.data, function)
    prefix = np.stack([ops.total(logs[..., : n + 1]) for n in range(logs.shape[-1])], axis=-1)
    ops.record(name, prefix, fraction)
    reach = math.ceil(math.log2((bits + 1) * math.log(2)))
    return Sums(Fixed(prefix, fraction), max(ops.fraction(name) if ops.measured else 0, bits - 1 - reach))


def _hybrid(ops: Ops, q: Fixed, k: Fixed, v: Fixed, sums: Sums, state: object, name: str) -> tuple[Fixed, object]:
    """Softmax inside the image, and exp(-z_n) q_n M of the images before; M decays by the mean of the gates."""
    inner = softmax_attention(ops, q, k, v, f"{name}.inner")
    new = matmul(ops, k.swapaxes(-1, -2), v.swapaxes(-1, -2), f"{name}.kv")
    if not isinstance(state, Fixed):
        return inner, combine(ops, [(1.0, new)], f"{name}.state")
    decay = decaying(ops, sums.prefix, sums.fraction)[..., None]
    mixed = multiply_add(ops, decay, matmul(ops, q, state.swapaxes(-1, -2), f"{name}.read"), inner, f"{name}.mixed")
    tokens = sums.prefix.shape[-1]
    mean = combine(ops, [(1 / tokens, sums.prefix[..., -1:])], "", ops.precision.bits, sums.fraction)
    kept = decaying(ops, mean, sums.fraction)[..., None]
    return mixed, multiply_add(ops, kept, state, new, f"{name}.state")


def _linear(ops: Ops, q: Fixed, k: Fixed, v: Fixed, sums: Sums, state: object, name: str) -> tuple[Fixed, object]:
    """M_n = exp(-l_n) M_{n-1} + k_n v_n and out_n = q_n M_n, for all tokens at once."""
    scores, rows = matmul(ops, q, k, f"{name}.scores"), []
    for n in range(scores.shape[-1]):
        weights = _fading(ops, scores[..., n, : n + 1], sums, f"{name}.weights")[..., None, :]
        rows.append(matmul(ops, weights, v[..., : n + 1, :].swapaxes(-1, -2), f"{name}.mixed"))
    mixed = concatenate(rows, axis=-2)
    by_channel = _fading(ops, k.swapaxes(-1, -2), sums, f"{name}.kept", between=1)  # [..., A, d, T]
    new = matmul(ops, by_channel, v.swapaxes(-1, -2), f"{name}.kv")
    if not isinstance(state, Fixed):
        return mixed, combine(ops, [(1.0, new)], f"{name}.state")
    decay = decaying(ops, sums.prefix, sums.fraction)[..., None]
    read = matmul(ops, q, state.swapaxes(-1, -2), f"{name}.read")
    both = multiply_add(ops, decay, read, mixed, f"{name}.mixed")
    return both, multiply_add(ops, decay[..., -1:, :], state, new, f"{name}.state")


def _fading(ops: Ops, x: Fixed, sums: Sums, name: str, between: int = 0) -> Fixed:
    """exp(-(z_n - z_m)) x_m for x [..., A, (d,) n] of the tokens m = 1 .. n; the last stays as it is. `between`: the
    number of dimensions between A and the tokens.
    """
    n = x.shape[-1]
    last = combine(ops, [(1.0, x[..., n - 1 :])], name)
    if n == 1:
        return last
    z = sums.prefix.data
    gap = ops.at_least_one(ops.mix((1, -1), z[..., n - 1 : n], z[..., : n - 1], exact=True))
    decay = decaying(ops, Fixed(gap, sums.prefix.fraction), sums.fraction)
    if between:
        decay = decay[..., None, :]
    return concatenate([multiply(ops, decay, x[..., : n - 1], name), last])


def _full(ops: Ops, q: Fixed, k: Fixed, v: Fixed, sums: Sums, state: object, name: str) -> tuple[Fixed, object]:
    if isinstance(state, Memory):
        k, v = concatenate([state.keys, k], axis=-2), concatenate([state.values, v], axis=-2)
    return softmax_attention(ops, q, k, v, f"{name}.inner"), Memory(k, v)


def _none(ops: Ops, q: Fixed, k: Fixed, v: Fixed, sums: Sums, state: object, name: str) -> tuple[Fixed, object]:
    return softmax_attention(ops, q, k, v, f"{name}.inner"), None


CONTEXTS = {"hybrid": _hybrid, "linear": _linear, "full": _full, "none": _none}
"""As in ops/hybrid_linear/kinds.py."""
