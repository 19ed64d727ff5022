"""Layers without attention, on named values (fixed.py). Each takes the interpreter first; sizes come from the tensors.

Letters: T tokens, S tokens attended to, D width, h heads of width d, p bits, f fraction bits; `...` may hold a sample
dimension (integers only). `name` is that of the result; parts append to it.

Sizes are given in cells (cells.py): dot(m) is a sum of m products, m p^2 + A(m p + 3, 2 p + log2 m + 1) + p + 1 gates,
so O(m p^2) for fixed p; F is a function of one number, 2^p + p gates by `table`. With T and S at most n^2 no layer has
more than O(n^4) gates.
"""

import math

import numpy as np

from flowgression.circuits.lower.fixed import (
    Fixed,
    Value,
    activation,
    combine,
    constant,
    fixed,
    linear,
    look_up,
    multiply,
)
from flowgression.circuits.lower.ops import Ops, Tensor

Weights = dict[str, np.ndarray]

STEP_DIGITS = 8


def rms_norm(ops: Ops, x: Value, name: str = "", scale: float = 1.0) -> Fixed:
    """scale x / sqrt(mean x^2) over the last dimension. Depth 25: squares 8, MSB 1, mantissa 2, root 2,
    product 8, shift 2, clamp 2. T sums of D squares, T F for the root, T D products.
    """
    x = fixed(ops, x)
    return _normalised(ops, x, ops.square_sum(x.data), scale * math.sqrt(x.shape[-1]), name)


def layer_norm(ops: Ops, x: Value, name: str = "") -> Fixed:
    """(x - mean) / standard deviation over the last dimension, without dividing by D. Depth 32.

    y = D x - sum x is D times the centred x, and sum y^2 = D^2 sum x^2 - D (sum x)^2; the rest is rms_norm's, on y.
    T sums of D numbers and T of D + 1 squares, T D differences, T F for the root, T D products.
    """
    x = fixed(ops, x)
    size = x.shape[-1]
    total = ops.total(x.data)
    centred = Fixed(ops.mix((size, -1), x.data, total[..., None], exact=True), x.fraction)
    return _normalised(ops, centred, ops.centred_square_sum(x.data, total), math.sqrt(size), name)


def unit_vectors(ops: Ops, x: Fixed, name: str) -> Fixed:
    """x / |x| over the last dimension, entries in [-1, 1]: p - 2 fraction bits. Depth 25, as `rms_norm`."""
    return _normalised(ops, x, ops.square_sum(x.data), 1.0, name, ops.precision.bits - 2)


def _normalised(
    ops: Ops, x: Fixed, squares: np.ndarray, length: float, name: str, fraction: int | None = None
) -> Fixed:
    """x length / sqrt(squares), for squares >= 1 in the units of x^2."""
    bits = ops.precision.bits
    fraction = min(ops.fraction(name) if fraction is None else fraction, bits - 1)
    root = ops.function("rsqrt", 1 << bits, (4 << bits) - 1, bits, bits, length)
    factor, power = ops.inverse(squares, root, bits, root=2)
    result = ops.rescale(x.data, factor[..., None], power[..., None], bits - fraction)
    return Fixed(ops.record(name, result, fraction), fraction)


def weighted_norm(ops: Ops, x: Fixed, weight: np.ndarray, name: str) -> Fixed:
    """RMS norm times a learned weight [D]. Depth 25 + 10."""
    return multiply(ops, rms_norm(ops, x, f"{name}.rms"), constant(ops, weight), name)


def divide_rows(ops: Ops, numerator: Fixed, denominator: Fixed, name: str = "", fraction: int | None = None) -> Fixed:
    """numerator [..., T, d] / denominator [..., T] >= 1 with so many fraction bits (None: all that the quotient of
    the formats has). Depth 17. T F, T d products.
    """
    bits, exact = ops.precision.bits, numerator.fraction - denominator.fraction
    fraction = exact if fraction is None else min(fraction, exact + bits - 1)
    inverse = ops.function("reciprocal", 1 << bits, (2 << bits) - 1, bits, bits)
    factor, power = ops.inverse(denominator.data, inverse, bits, root=1)
    result = ops.rescale(numerator.data, factor[..., None], power[..., None], bits + exact - fraction)
    return Fixed(ops.record(name, result, fraction), fraction)


def mlp(ops: Ops, x: Value, weights: Weights, activate: str = "silu", name: str = "") -> Fixed:
    """MLP of width H: Linear, SiLU (or another function), Linear (names fc1, fc2). Depth 9 + 2 + 9.

    T H (dot(D) + F) + T D dot(H).
    """
    hidden = linear(ops, x, weights["fc1.w"], weights["fc1.b"], f"{name}.fc1")
    hidden = activation(ops, hidden, activate, f"{name}.{activate}")
    return linear(ops, hidden, weights["fc2.w"], weights["fc2.b"], f"{name}.fc2")


def gated_mlp(ops: Ops, x: Value, weights: Weights, name: str = "") -> Fixed:
    """GELU(gate x) * (value x) of width H, then a linear layer. Depth 9 + 2 + 10 + 9.

    T H (2 dot(D) + F + dot(1)) + T D dot(H).
    """
    gate = linear(ops, x, weights["gate.w"], weights["gate.b"], f"{name}.gate")
    gate = activation(ops, gate, "gelu", f"{name}.gelu")
    value = linear(ops, x, weights["value.w"], weights["value.b"], f"{name}.value")
    hidden = multiply(ops, gate, value, f"{name}.product")
    return linear(ops, hidden, weights["out.w"], weights["out.b"], f"{name}.out")


def resample(ops: Ops, tokens: Value, matrix: np.ndarray, name: str = "") -> Fixed:
    """Constant linear map over tokens (bicubic up, area down): tokens [..., T, C], matrix [T', T] -> [..., T', C].
    Depth 9, T' C dot(T).
    """
    return linear(ops, fixed(ops, tokens).swapaxes(-1, -2), matrix, name=name).swapaxes(-1, -2)


def euler_step(ops: Ops, x: Value, velocity: Value, step: float, name: str = "") -> Fixed:
    """x + step * velocity. Depth 9, one weighted sum for each of the T C numbers."""
    return move(ops, x, [(step, fixed(ops, velocity))], name)


def move(ops: Ops, x: Value, velocities: list[tuple[float, Fixed]], name: str, finer: int = 0) -> Fixed:
    """x + sum of steps times velocities: one, or with guidance two; accelerations alike. Depth 9.

    The steps are rounded to 1/256, or with measured ranges to p + 4 fraction bits, and to 2^finer times less for steps
    as small as half a squared one.
    """
    digits = (ops.precision.bits + 4 if ops.measured else STEP_DIGITS) + finer
    return combine(ops, [(1.0, fixed(ops, x)), *velocities], name, digits)


# ---- rearrangements and tables ----


def to_pixels(tokens: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """[..., h w, P P C] -> [..., H W, C], row by row; inside a token row, column, channel."""
    cut = tokens.reshape(*tokens.shape[:-2], *grid, patch, patch, -1)
    return np.swapaxes(cut, -4, -3).reshape(*tokens.shape[:-2], grid[0] * grid[1] * patch**2, -1)


def to_tokens(pixels: Tensor, grid: tuple[int, int], patch: int) -> Tensor:
    """The inverse of `to_pixels`."""
    cut = pixels.reshape(*pixels.shape[:-2], grid[0], patch, grid[1], patch, -1)
    return np.swapaxes(cut, -4, -3).reshape(*pixels.shape[:-2], grid[0] * grid[1], -1)


def of_label(ops: Ops, label: Tensor | None, table: np.ndarray) -> Fixed:
    """The row [..., 1, D] of a table [V, D] for a label; the last for the null label."""
    return look_up(ops, label, table[:, None]) if label is not None else constant(ops, table[-1:])


def part(arrays: dict[str, np.ndarray], name: str) -> dict[str, np.ndarray]:
    """The arrays of one block, without its name."""
    return {key[len(name) + 1 :]: value for key, value in arrays.items() if key.startswith(name + ".")}
