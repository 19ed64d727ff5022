"""Attention on named values: softmax, of any logits or of bounded ones, and polynomials in place of exp.

Letters: T tokens, S tokens attended to, D width, h heads of width d, p bits, f fraction bits, R features; dot(m) and F
as in basics.py. Every `name` is that of the result; parts append to it.
"""

import math
from typing import NamedTuple

import numpy as np

from flowgression.circuits.arithmetic.functions import polynomial_name
from flowgression.circuits.kinds import SOFTMAX, Attention, Polynomial
from flowgression.circuits.lower.basics import Weights, divide_rows, unit_vectors
from flowgression.circuits.lower.fixed import (
    Fixed,
    Value,
    add,
    combine,
    concatenate,
    exact_matmul,
    fixed,
    linear,
    matmul,
    multiply,
    own_format,
)
from flowgression.circuits.lower.ops import Ops

GUARD = 12
"""Bits by which a polynomial's values may be longer than p: small weights beside large ones keep their digits."""


class Memory(NamedTuple):
    """Keys and values of earlier scales, [..., h, tokens so far, d] each."""

    keys: Fixed
    values: Fixed


class State(NamedTuple):
    """The summed state of polynomial attention: sum phi(k) v [..., h, R, d] and sum phi(k) [..., h, R]."""

    values: Fixed
    counts: Fixed


def softmax_attention(
    ops: Ops, q: Value, k: Value, v: Value, name: str = "", polynomial: Polynomial | None = None
) -> Fixed:
    """softmax(q k^T) v; q [..., T, d] already divided by sqrt(d), k and v [..., S, d] -> [..., T, d].

    One format for all values: E = round(2^f exp(score)), one table; out = (sum E v) / (1 + sum E), the reciprocal from
    the MSB and p bits behind it. The one in the denominator keeps it positive. Scores beyond the format's
    range saturate. Depth 36 for every number of tokens: scores 10, table 2, sum 7, MSB 1, mantissa 2,
    reciprocal 2, product 8, shift 2, clamp 2.
    T S (dot(d) + F), T sums of S numbers and d of S products each, T F for the reciprocal, T d products: O(T S).

    Measured ranges: `falling_exponentials`, so scores may have any size. Depth 53. With a polynomial in place of exp:
    `polynomial_weights`. Depth 37.
    """
    q, k, v = (fixed(ops, x) for x in (q, k, v))
    p = ops.precision
    scores = matmul(ops, q, k, f"{name}.scores")
    if polynomial is not None:
        weights = polynomial_weights(ops, scores, polynomial)
        numerator = exact_matmul(ops, weights, v.swapaxes(-1, -2))
        denominator = ops.at_least_one(ops.total(weights.data))
    elif ops.measured:
        weights = falling_exponentials(ops, scores)
        numerator = exact_matmul(ops, weights, v.swapaxes(-1, -2))
        denominator = ops.at_least_one(ops.total(weights.data))
    else:
        exp = ops.function("exp", p.low, p.high, p.f, p.f)
        weights = Fixed(ops.apply(scores.data, exp), p.f)
        numerator = exact_matmul(ops, weights, v.swapaxes(-1, -2))
        denominator = ops.total(weights.data, plus=1)
    return divide_rows(ops, numerator, Fixed(denominator, weights.fraction), name)


def polynomial_weights(ops: Ops, scores: Fixed, polynomial: Polynomial) -> Fixed:
    """P(score) of p-bit scores, rounded to p fraction bits, or to fewer where it would exceed p + GUARD bits.

    Depth 2 or 9, by the back end.
    """
    p, coefficients = ops.precision, polynomial.coefficients
    range_of_scores = np.ldexp(np.linspace(p.low, p.high, 4097), -scores.fraction)
    largest = float(np.abs(np.polynomial.Polynomial(coefficients)(range_of_scores)).max())
    fraction = min(p.bits, p.bits + GUARD - math.ceil(math.log2(largest)))
    function = ops.function(polynomial_name(coefficients), p.low, p.high, scores.fraction, fraction)
    return Fixed(ops.apply(scores.data, function), fraction)


def falling_exponentials(ops: Ops, scores: Fixed) -> Fixed:
    """round(2^p exp(score - top)) with top the least whole number above the row's scores: [..., T, S], p fraction
    bits. Softmax does not change when a row is shifted.

    The gap top - score >= 0 gets p bits that reach as far as exp(-gap) is not rounded to 0. Depth 3 for the top, 7 for
    the gap, 1 + 2 to limit it, and the table's: T S (levels + F) with as many levels as whole numbers in the range.
    """
    bits = ops.precision.bits
    whole = max(scores.fraction, 0)
    top = ops.ceiling(scores.data, whole)
    gap = ops.at_least_one(ops.mix((1 << whole, -1), top[..., None], scores.data, exact=True))
    reach = math.ceil(math.log2((bits + 1) * math.log(2)))
    return decaying(ops, Fixed(gap, scores.fraction), bits - 1 - reach)


def decaying(ops: Ops, gap: Fixed, fraction: int) -> Fixed:
    """round(2^p exp(-gap)) for gap >= 0, limited to p bits of so many fraction bits. Depth 9 + 2 or 9."""
    p = ops.precision
    common = max(fraction, gap.fraction)
    limited = ops.mix((1 << (common - gap.fraction),), gap.data, shift=common - fraction)
    return Fixed(ops.apply(limited, ops.function("exp_minus", 0, p.high, fraction, p.bits)), p.bits)


def rotate(ops: Ops, x: Fixed, rotation: np.ndarray, name: str = "") -> Fixed:
    """Turn neighbouring pairs of x [..., h, T, d] by the matrices rotation [T, d/2, 2, 2]. Depth 9, h T d dot(2)."""
    own = ops.precision.weight_fraction(rotation)
    matrices = ops.parameter(rotation, own)
    pairs = x.data.reshape(*x.shape[:-1], x.shape[-1] // 2, 1, 2)
    exact = x.fraction + own
    fraction = min(ops.fraction(name), exact)
    turned = ops.matmul(pairs, matrices, shift=exact - fraction).reshape(x.shape)
    return Fixed(ops.record(name, turned, fraction), fraction)


def split_heads(x: Fixed, parts: int, num_heads: int) -> list[Fixed]:
    """[..., T, parts * D] -> so many [..., h, T, d]."""
    size = x.shape[-1] // parts
    cut = x.reshape(*x.shape[:-1], parts, num_heads, size // num_heads)
    return [cut[..., i, :, :].swapaxes(-2, -3) for i in range(parts)]


def merge_heads(x: Fixed) -> Fixed:
    """[..., h, T, d] -> [..., T, D]."""
    joined = x.swapaxes(-2, -3)
    return joined.reshape(*joined.shape[:-2], -1)


def attention(
    ops: Ops,
    x: Value,
    weights: Weights,
    num_heads: int,
    rotation: np.ndarray | None = None,
    memory: Memory | State | None = None,
    kind: Attention = SOFTMAX,
    name: str = "",
) -> tuple[Fixed, Memory | State]:
    """Multi-head attention of x [..., T, D] over its own tokens and those in memory. Depth 9 + 9 + 36 + 9.

    The factor 1 / sqrt(d) of softmax is part of the query's weights. 4 T D dot(D), 2 T D dot(2) for rotations, h
    attentions.
    """
    x = fixed(ops, x)
    size = x.shape[-1]
    scale = np.ones(3 * size)
    scale[:size] = _query_scale(size // num_heads, kind)
    bias = weights.get("qkv.b")
    qkv = linear(ops, x, weights["qkv.w"] * scale[:, None], None if bias is None else bias * scale, f"{name}.qkv")
    q, k, v = split_heads(qkv, 3, num_heads)
    if rotation is not None:
        q, k = rotate(ops, q, rotation, f"{name}.q"), rotate(ops, k, rotation, f"{name}.k")
    seen = seen_tokens(ops, k, v, kind, weights, f"{name}.mixed")
    mixed, found = attend(ops, q, seen, kind, weights, memory, f"{name}.mixed")
    return linear(ops, merge_heads(mixed), weights["proj.w"], weights.get("proj.b"), f"{name}.proj"), found


def cross_attention(
    ops: Ops,
    x: Fixed,
    context: Memory,
    weights: Weights,
    num_heads: int,
    rotation: np.ndarray,
    kind: Attention = SOFTMAX,
    name: str = "",
) -> Fixed:
    """Queries of x [..., T, D], keys and values from `context_of`. Depth 9 + 9 + 36 + 9."""
    scale = _query_scale(x.shape[-1] // num_heads, kind)
    (q,) = split_heads(linear(ops, x, weights["q.w"] * scale, name=f"{name}.query"), 1, num_heads)
    q = rotate(ops, q, rotation, f"{name}.q")
    mixed, _ = attend(ops, q, context, kind, weights, None, f"{name}.mixed")
    return linear(ops, merge_heads(mixed), weights["proj.w"], weights["proj.b"], f"{name}.proj")


def context_of(
    ops: Ops, semantics: Fixed, weights: Weights, num_heads: int, rotation: np.ndarray, kind: Attention, name: str
) -> Memory:
    """Keys and values [..., h, T, d] of cross-attention; the same for every step of the flow."""
    k, v = split_heads(linear(ops, semantics, weights["kv.w"], name=f"{name}.kv"), 2, num_heads)
    return seen_tokens(ops, rotate(ops, k, rotation, f"{name}.k"), v, kind, weights, f"{name}.mixed")


# ---- what is compared, what is averaged, and by which weights ----


def _query_scale(head_size: int, kind: Attention) -> float:
    """Cosines need none."""
    return 1.0 if kind.cosine else head_size**-0.5


def seen_tokens(ops: Ops, k: Value, v: Value, kind: Attention, head: Weights, name: str) -> Memory:
    """Keys and values [..., h, S, d] as they are compared and averaged; head: centre, shift [h, d] where used.

    Cosines: depth 9 + 25 for unit keys; 9 for a shift; unit values 25.
    """
    k, v = fixed(ops, k), fixed(ops, v)
    if kind.cosine:
        centred = add(ops, k, own_format(ops, -head["centre"][:, None, :]), f"{name}.centred")
        k = unit_vectors(ops, centred, f"{name}.unit_k")
    if kind.shifted:
        k = add(ops, k, own_format(ops, -head["shift"][:, None, :]), f"{name}.shifted")
    return Memory(k, unit_vectors(ops, v, f"{name}.unit_v") if kind.unit_values else v)


def attend(
    ops: Ops,
    q: Value,
    seen: Memory,
    kind: Attention,
    head: Weights,
    memory: Memory | State | None = None,
    name: str = "",
) -> tuple[Fixed, Memory | State]:
    """Queries [..., h, T, d] over `seen_tokens` and those in memory: [..., h, T, d] and the new memory; head: tau [h]
    for cosines.

    Polynomials of unit vectors (FastFlowAR) fold all keys into a state. Otherwise keys are kept, and the weight of each
    is a function of its logit: exp, or the polynomial that `theory.approximate` put in its place. Folding those would
    need monomials of unbounded vectors, whose range is that of the largest to the degree's power: too few digits
    would be left.
    """
    q = fixed(ops, q)
    if kind.cosine:
        q = unit_vectors(ops, q, f"{name}.unit_q")
    if kind.polynomial is not None and kind.folds:
        before = memory if isinstance(memory, State) else None
        return polynomial_attention(ops, q, *seen, kind.polynomial, head["tau"], before, name)
    if kind.cosine:
        q = multiply(ops, q, own_format(ops, head["tau"][:, None, None]), f"{name}.tau_q")
    if isinstance(memory, Memory):
        seen = Memory(*(concatenate(list(pair), axis=-2) for pair in zip(memory, seen, strict=True)))
    return softmax_attention(ops, q, *seen, name, kind.polynomial), seen


# ---- FastFlowAR (arXiv 2502.16490; layers/lowrank_attention.py) ----


def polynomial_attention(
    ops: Ops,
    q: Fixed,
    k: Fixed,
    v: Fixed,
    polynomial: Polynomial,
    tau: np.ndarray,
    state: State | None = None,
    name: str = "",
) -> tuple[Fixed, State]:
    """sum_j P(tau q.k_j) v_j / sum_j P(tau q.k_j) over these tokens and those summed in `state`; tau [h].

    q, k [..., h, T, d] of length 1, v as long. P(tau q.k) = sum_a w_a q^a k^a over the R = C(d + g, g) monomials a,
    w_a = c_|a| tau^|a| |a|! / a!; so all keys fold into the state, whose size does not depend on the tokens. Depth
    10 (g - 1) for the monomials, 10 for their weights, 8 + 2 for the sums, 9 for the state before, 8 + 1 + 17 for the
    quotient.
    (T + S) R products, R d sums of S products, R of S numbers, T (d + 1) dot(R): O(T + S).

    Formats are proved, not measured: unit vectors and their monomials lie in [-1, 1], and sums over at most
    `polynomial.tokens` tokens within that many times the range of v.
    """
    bits = ops.precision.bits
    keys, features = (monomials(ops, x, polynomial.degree) for x in (k, q))
    weights = polynomial.weights(tau, q.shape[-1])
    queries = multiply(ops, features, own_format(ops, weights[:, None, :]), "", _fraction_below(bits, weights))
    growth = math.ceil(math.log2(polynomial.tokens))
    by_feature = keys.swapaxes(-1, -2)  # [..., h, R, S]
    sums = exact_matmul(ops, by_feature, v.swapaxes(-1, -2))
    values = _narrowed(ops, sums, v.fraction - growth)
    counts = _narrowed(ops, Fixed(ops.total(by_feature.data), keys.fraction), bits - 2 - growth)
    if state is not None:
        values = combine(ops, [(1.0, state.values), (1.0, values)], "", fraction=values.fraction)
        counts = combine(ops, [(1.0, state.counts), (1.0, counts)], "", fraction=counts.fraction)
    numerator = exact_matmul(ops, queries, values.swapaxes(-1, -2))
    denominator = exact_matmul(ops, queries, counts.map(lambda data: data[..., None, :]))[..., 0]
    positive = Fixed(ops.at_least_one(denominator.data), denominator.fraction)
    return divide_rows(ops, numerator, positive, name, v.fraction), State(values, counts)


def monomials(ops: Ops, x: Fixed, degree: int) -> Fixed:
    """x [..., T, d] -> all monomials of degree <= g, [..., T, R], as `Polynomial.exponents` orders them.

    Each is a variable times a monomial of one degree less, rounded to p - 2 fraction bits. Depth 10 (g - 1).
    """
    bits, size = ops.precision.bits, x.shape[-1]
    one = np.broadcast_to(ops.parameter(np.ones(1), bits - 2), (*x.shape[:-1], 1))
    last, largest = x, list(range(size))
    parts = [Fixed(one, bits - 2), x]
    for degree_so_far in range(1, degree):
        pairs = [(i, j) for j in range(len(largest)) for i in range(largest[j], size)]
        variables, sources = (list(each) for each in zip(*pairs, strict=True))
        if degree_so_far == 1:
            last = _pairs(ops, x, variables, sources)
        else:
            last = multiply(ops, x[..., variables], last[..., sources], "", bits - 2)
        largest = variables
        parts.append(last)
    return concatenate(parts)


def _pairs(ops: Ops, x: Fixed, first: list[int], second: list[int]) -> Fixed:
    """x_i x_j; squares by the cell that knows that its factors are equal, and so costs half."""
    bits, size = ops.precision.bits, x.shape[-1]
    unequal = [(i, j) for i, j in zip(first, second, strict=True) if i != j]
    shift = 2 * x.fraction - (bits - 2)
    found = [ops.square_sum(x.data[..., None], plus=0, shift=shift, exact=False)]
    if unequal:
        rows, columns = (list(each) for each in zip(*unequal, strict=True))
        found.append(multiply(ops, x[..., rows], x[..., columns], "", bits - 2).data)
    order = [i if i == j else size + unequal.index((i, j)) for i, j in zip(first, second, strict=True)]
    return Fixed(np.concatenate(found, axis=-1)[..., order], bits - 2)


def _narrowed(ops: Ops, exact: Fixed, fraction: int) -> Fixed:
    """An exact value that is known to fit into p bits of so many fraction bits. Depth 3 + 2."""
    return combine(ops, [(1.0, exact)], "", fraction=min(fraction, exact.fraction))


def _fraction_below(bits: int, weights: np.ndarray) -> int:
    """Fraction bits with which p-bit numbers hold everything up to the largest weight."""
    return bits - 1 - math.ceil(math.log2(float(np.abs(weights).max()) * (1 + 2.0**-4)))
