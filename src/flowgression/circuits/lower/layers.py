"""Layers in the operations of ops.py. Each takes the interpreter first; sizes of tensors come from the tensors.

Letters: T tokens, S tokens attended to, D width, h heads of width d, p bits with f fraction bits; `...` may hold a
sample dimension (integers only).

Sizes are given in cells (cells.py): dot(m) is a sum of m products, m p^2 + A(m p + 3, 2 p + log2 m + 1) + p + 1 gates,
so O(m p^2) for fixed p; F is a function of one number, 2^p + p gates by `table`. With T and S at most n^2 no layer has
more than O(n^4) gates.
"""

import math
from typing import NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.functions import function
from flowgression.circuits.lower.ops import Ops, Tensor


class Memory(NamedTuple):
    """Keys and values of earlier scales, [..., h, tokens so far, d] each."""

    keys: Tensor
    values: Tensor


def linear(ops: Ops, x: Tensor, weight: np.ndarray, bias: np.ndarray | None = None) -> Tensor:
    """x [..., T, in] -> [..., T, out] with real weight [out, in] and bias [out]. Depth 9 (weights wired), 10 (as
    inputs). T out cells dot(in).
    """
    fraction = ops.precision.weight_fraction(weight)
    w = ops.parameter(weight, fraction)
    b = None if bias is None else ops.parameter(bias)
    return ops.matmul(x, w, b, bias_shift=fraction, shift=fraction)


def rms_norm(ops: Ops, x: Tensor) -> Tensor:
    """x / sqrt(mean x^2) over the last dimension. Depth 25: squares 8, leading one 1, mantissa 2, root 2, product 8,
    shift 2, clamp 2. T sums of D squares, T F for the root, T D products.
    """
    return _divide_by_root(ops, x, ops.square_sum(x))


def layer_norm(ops: Ops, x: Tensor) -> Tensor:
    """(x - mean) / standard deviation over the last dimension, without dividing by D. Depth 32.

    y = D x - sum x is D times the centred x, and sum y^2 = D^2 sum x^2 - D (sum x)^2; the rest is rms_norm's, on y.
    T sums of D numbers and T of D + 1 squares, T D differences, T F for the root, T D products.
    """
    total = ops.total(x)
    centred = ops.mix((x.shape[-1], -1), x, total[..., None], exact=True)
    return _divide_by_root(ops, centred, ops.centred_square_sum(x, total))


def _divide_by_root(ops: Ops, x: Tensor, squares: Tensor) -> Tensor:
    p = ops.precision
    root = function("rsqrt", 1 << p.bits, (4 << p.bits) - 1, p.bits, p.bits, math.sqrt(x.shape[-1]))
    factor, power = ops.inverse(squares, root, p.bits, root=2)
    return ops.rescale(x, factor[..., None], power[..., None], p.bits - p.f)


def mlp(ops: Ops, x: Tensor, weights: dict[str, np.ndarray]) -> Tensor:
    """SiLU MLP of width H: Linear, SiLU, Linear (names fc1, fc2). Depth 9 + 2 + 9. T H (dot(D) + F) + T D dot(H)."""
    hidden = ops.activation(linear(ops, x, weights["fc1.w"], weights["fc1.b"]), "silu")
    return linear(ops, hidden, weights["fc2.w"], weights["fc2.b"])


def gated_mlp(ops: Ops, x: Tensor, weights: dict[str, np.ndarray]) -> Tensor:
    """GELU(gate x) * (value x) of width H, then a linear layer. Depth 9 + 2 + 10 + 9.

    T H (2 dot(D) + F + dot(1)) + T D dot(H).
    """
    gate = ops.activation(linear(ops, x, weights["gate.w"], weights["gate.b"]), "gelu")
    value = linear(ops, x, weights["value.w"], weights["value.b"])
    return linear(ops, ops.multiply(gate, value), weights["out.w"], weights["out.b"])


def softmax_attention(ops: Ops, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """softmax(q k^T) v; q [..., T, d] already divided by sqrt(d), k and v [..., S, d] -> [..., T, d].

    E = round(2^f exp(score)), one table; out = (sum E v) / (1 + sum E), the reciprocal from the leading one and p
    bits behind it. The one in the denominator keeps it positive. Depth 36 for every number of tokens: scores 10,
    table 2, sum 7, leading one 1, mantissa 2, reciprocal 2, product 8, shift 2, clamp 2.
    T S (dot(d) + F), T sums of S numbers and d of S products each, T F for the reciprocal, T d products: O(T S).
    """
    p = ops.precision
    scores = ops.matmul(q, k, shift=p.f)
    weights = ops.apply(scores, function("exp", p.low, p.high, p.f, p.f))
    numerator = ops.matmul(weights, np.swapaxes(v, -1, -2), exact=True)
    return divide_rows(ops, numerator, ops.total(weights, plus=1))


def divide_rows(ops: Ops, numerator: Tensor, denominator: Tensor) -> Tensor:
    """numerator [..., T, d] / denominator [..., T] >= 1, in the numerator's own scale. Depth 17. T F, T d products."""
    bits = ops.precision.bits
    inverse = function("reciprocal", 1 << bits, (2 << bits) - 1, bits, bits)
    factor, power = ops.inverse(denominator, inverse, bits, root=1)
    return ops.rescale(numerator, factor[..., None], power[..., None], bits)


def polynomial_attention(ops: Ops, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Low-rank attention: phi(q) (phi(k)^T v) / (phi(q) sum phi(k)), phi(q) . phi(k) = 1 + q.k + (q.k)^2 / 2
    (positive up to rounding).

    q, k, v as in `softmax_attention`. The R = 1 + d + d (d + 1) / 2 features do not depend on the tokens. Depth 10 +
    8 + 8 + 1 + 17. (T + S) R products, R d sums of S products, R of S numbers, T (d + 1) dot(R): O(T + S).
    """
    queries, keys = polynomial_features(ops, q, 0), polynomial_features(ops, k, 1)
    transposed = np.swapaxes(keys, -1, -2)  # [..., R, S]
    values = ops.matmul(transposed, np.swapaxes(v, -1, -2), exact=True)  # [..., R, d]
    numerator = ops.matmul(queries, np.swapaxes(values, -1, -2), exact=True)
    denominator = ops.matmul(queries, ops.total(transposed)[..., None, :], exact=True)[..., 0]
    return divide_rows(ops, numerator, ops.at_least_one(denominator))


def polynomial_features(ops: Ops, x: Tensor, halvings: int) -> Tensor:
    """x [..., T, d] -> [..., T, R]: 1, the entries, their squares divided by 2^halvings, and products of pairs.
    Depth 10, R products for each token.
    """
    p = ops.precision
    first, second = np.triu_indices(x.shape[-1], 1)
    one = np.broadcast_to(ops.parameter(np.ones(1)), (*x.shape[:-1], 1))
    squares = ops.square_sum(x[..., None], plus=0, shift=p.f + halvings, exact=False)
    return np.concatenate([one, x, squares, ops.multiply(x[..., first], x[..., second])], axis=-1)


def rotate(ops: Ops, x: Tensor, rotation: np.ndarray) -> Tensor:
    """Turn neighbouring pairs of x [..., h, T, d] by the matrices rotation [T, d/2, 2, 2]. Depth 9, h T d dot(2)."""
    fraction = ops.precision.weight_fraction(rotation)
    matrices = ops.parameter(rotation, fraction)
    pairs = x.reshape(*x.shape[:-1], x.shape[-1] // 2, 1, 2)
    return ops.matmul(pairs, matrices, shift=fraction).reshape(x.shape)


def attention(
    ops: Ops,
    x: Tensor,
    weights: dict[str, np.ndarray],
    num_heads: int,
    rotation: np.ndarray | None = None,
    memory: Memory | None = None,
) -> tuple[Tensor, Memory]:
    """Multi-head softmax attention of x [..., T, D] over its own tokens and those in memory. Depth 9 + 9 + 36 + 9.

    The factor 1 / sqrt(d) is part of the query's weights. 4 T D dot(D), 2 T D dot(2) for rotations, h softmax
    attentions.
    """
    size = x.shape[-1]
    scale = np.ones(3 * size)
    scale[:size] = (size // num_heads) ** -0.5
    bias = weights.get("qkv.b")
    qkv = linear(ops, x, weights["qkv.w"] * scale[:, None], None if bias is None else bias * scale)
    parts = qkv.reshape(*x.shape[:-1], 3, num_heads, size // num_heads)
    q, k, v = (np.swapaxes(parts[..., i, :, :], -2, -3) for i in range(3))
    if rotation is not None:
        q, k = rotate(ops, q, rotation), rotate(ops, k, rotation)
    if memory is not None:
        k, v = np.concatenate([memory.keys, k], axis=-2), np.concatenate([memory.values, v], axis=-2)
    mixed = np.swapaxes(softmax_attention(ops, q, k, v), -2, -3).reshape(x.shape)
    return linear(ops, mixed, weights["proj.w"], weights.get("proj.b")), Memory(k, v)


def modulated_block(
    ops: Ops,
    x: Tensor,
    modulation: Tensor,
    weights: dict[str, np.ndarray],
    num_heads: int,
    rotation: np.ndarray,
    memory: Memory | None = None,
) -> tuple[Tensor, Memory]:
    """x + gamma1 Attn(norm(x) scale1 + shift1), then the gated MLP alike. x [..., T, D], modulation [..., T or 1, 6 D].

    Order gamma1, gamma2, scale1, scale2, shift1, shift2; the scales already hold the added 1. Two norms, four fused
    products of T D numbers, one attention, one gated MLP: depth 25 + 10 + 63 + 10 and 25 + 10 + 30 + 10.
    """
    gamma1, gamma2, scale1, scale2, shift1, shift2 = np.split(modulation, 6, axis=-1)
    inner = ops.fused(rms_norm(ops, x), scale1, shift1)
    mixed, memory = attention(ops, inner, weights, num_heads, rotation, memory)
    x = ops.fused(gamma1, mixed, x)
    inner = ops.fused(rms_norm(ops, x), scale2, shift2)
    return ops.fused(gamma2, gated_mlp(ops, inner, weights), x), memory


def resample(ops: Ops, tokens: Tensor, matrix: np.ndarray) -> Tensor:
    """Constant linear map over tokens (bicubic up, area down): tokens [..., T, C], matrix [T', T] -> [..., T', C].
    Depth 9, T' C dot(T).
    """
    return np.swapaxes(linear(ops, np.swapaxes(tokens, -1, -2), matrix), -1, -2)


STEP_FRACTION = 8


def euler_step(ops: Ops, x: Tensor, velocity: Tensor, step: float) -> Tensor:
    """x + step * velocity, the step rounded to 1/256. Depth 9, one weighted sum for each of the T C numbers."""
    factor = round(step * (1 << STEP_FRACTION))
    return ops.mix((1 << STEP_FRACTION, factor), x, velocity, shift=STEP_FRACTION)
