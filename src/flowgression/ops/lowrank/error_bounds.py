"""How far polynomial attention can be from softmax attention, without computing either. Both terms are theorems.

Truncation. Every weight of a row is off by a factor in [1-eps, 1+eps], so the normalised row is off by factors whose
ratio is at most rho = (1+eps)/(1-eps). Moving a mean by such a tilt changes it by at most
tanh(ln(rho) / 4) (max v - min v); rows of two points attain this. It holds for logits within the bound.

Rounding. U and D are sums over keys i and monomials a of w_a phi_a(q) phi_a(k_i) v_i, whose absolute values add up to
at most N |P|(A) max |v|, with |P| the polynomial of the absolute coefficients and A a bound on scale sum_j |q_j k_j|;
D is at least N p, with p = min P >= (1-eps) exp(-B). No term takes part in more than m float32 operations, whatever N
is and in whatever order a matrix product adds (summation.py), so U and D are off by gamma_m N |P|(A) max |v|, gamma_m =
m u / (1 - m u). Underflow, also to zero, adds a term of the size of the smallest normal number. The lemmas are in
docs/theory-reference.md; the numbers below are named after them.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.ops.lowrank.features import rank
from flowgression.ops.lowrank.minimax import SLACK, minimax_exp
from flowgression.ops.lowrank.summation import BLOCK, full_precision
from flowgression.ops.lowrank.types import logit_scale

_CHUNK = 1024


class ErrorCertificate(NamedTuple):
    """Bounds per channel [..., e] on |polynomial attention - softmax attention|, over all queries."""

    truncation: Tensor
    rounding: Tensor

    @property
    def total(self) -> Tensor:
        return self.truncation + self.rounding


class LogitBounds(NamedTuple):
    """Two bounds on |scale q.k| per head [...]: the largest there is, and max |q| max |k| by Cauchy-Schwarz."""

    largest: Tensor
    cauchy_schwarz: Tensor


def truncation_factor(eps: float) -> float:
    """tanh(ln((1+eps)/(1-eps)) / 4): error over max v - min v for a relative error eps >= 0 of the weights; at most 1,
    since the weights are positive.
    """
    return math.tanh(math.atanh(eps) / 2) if eps < 1 else 1.0


def error_certificate(
    v: Tensor,
    *,
    degree: int,
    bound: float,
    head_dim: int,
    dtype: torch.dtype | None = None,
    product_bound: float | None = None,
    largest_entry: float | None = None,
    calls: int = 1,
) -> ErrorCertificate:
    """Bound the error of `lowrank_attention` (and of its dense form) over these values, for any queries and keys.

    It holds if |scale q.k| <= bound (1 + 2^-17), the excess being what float32 makes of unit vectors, if matrix
    products follow IEEE 754 (PyTorch's faster modes are turned off inside, but not in a dense form that torch.compile
    compiled), and also if keys were centred in the same dtype before.

    Args:
        v: all values [..., N, e] that a query may see. Its dtype is that of the output, and storing the output in it
            counts, also where queries and keys are wider.
        degree: g, even, >= 2.
        bound: B in (0, 12], a bound on |scale q.k|.
        head_dim: d, the width of queries and keys.
        dtype: the widest dtype of queries, keys and values; that of v by default. The attention is computed in float64
            where it is float64, else in float32. If it is narrower than v, the certificate is of v rounded to it.
        product_bound: A >= B, a bound on |scale| sum_i |q_i k_i|; B by default, which holds for unit vectors, and in
            general where B is the bound of Cauchy and Schwarz.
        largest_entry: a bound on |scale|, the entries of scale q, and those of k; max(1, B) by default, which holds for
            unit vectors.
        calls: of how many calls the state was carried through; 1 where all keys came at once.

    Returns:
        truncation and rounding, each [..., e] in float64, and their `total`. rounding is infinite where nothing can be
        promised: the dtype cannot resolve the smallest weights, or something may overflow.

    Raises:
        InputError: odd degree, bound out of range, product_bound < bound.
    """
    polynomial = minimax_exp(degree, bound)
    absolute = bound if product_bound is None else product_bound
    if absolute < bound:
        raise InputError(
            f"product_bound={absolute} must be at least bound={bound}: it bounds the same sum of products."
        )
    dtype = dtype or v.dtype
    if dtype.itemsize < v.dtype.itemsize:
        v = v.to(dtype)
    paired, stored = v.device.type == "mps", v.dtype
    v = v.cpu().double() if paired else v.double()
    truncation = truncation_factor(polynomial.eps) * (v.amax(-2) - v.amin(-2))
    setting = _Setting(
        tokens=v.shape[-2],
        head_dim=head_dim,
        degree=degree,
        calls=calls,
        dtype=dtype if dtype == torch.float64 else torch.float32,
        paired=paired,
        entry=max(1.0, bound if largest_entry is None else largest_entry) * (1 + SLACK),
    )
    smallest = (1 - polynomial.eps) * math.exp(-bound * (1 + SLACK))
    largest = v.abs().amax(-2)
    rounding = setting.rounding(polynomial.coefficients, smallest, absolute * (1 + SLACK), largest)
    return ErrorCertificate(truncation, _stored(rounding, largest, setting.dtype, stored))


class _Setting(NamedTuple):
    """What the number of roundings depends on; tokens N, entry E: a bound >= 1 on the entries of queries and keys."""

    tokens: int
    head_dim: int
    degree: int
    calls: int
    dtype: torch.dtype
    paired: bool
    entry: float

    def roundings(self) -> int:
        """m: float32 operations that one term of U or D takes part in (lemmas 1 to 4)."""
        g, d, block = self.degree, self.head_dim, min(self.tokens, BLOCK)
        features = 2 * g + 2 * (g - 1) + g  # scaled queries, two chains of products, centred keys
        states = 4 + (self.calls - 1)  # sum, weight, their product and the state to start with; those of later calls
        lowrank = features + block + states + min(rank(d, g), BLOCK) + 1
        dense = g * (d + 3) + (2 * g + 2) + block + 1  # by Horner's rule, and by the completed square no more
        if self.paired:  # the dense form has no wider format to add its blocks in
            dense += -(-self.tokens // BLOCK)
        return max(lowrank, dense)

    def relative(self) -> float:
        """Relative error of one term of U or D; the second factor is for the wide format, unit roundoff <= 2^-45."""
        unit = _unit_roundoff(self.dtype)
        wide = unit if self.dtype == torch.float64 else 2.0**-45
        others = 3 * self.tokens + rank(self.head_dim, self.degree) + self.degree + 8
        return (1 + _gamma(self.roundings(), unit)) * (1 + _gamma(others, wide)) - 1

    def rounding(self, coefficients: Sequence[float], smallest: float, absolute: float, largest: Tensor) -> Tensor:
        """Lemmas 5 and 6: the error of U / D, for |v| <= largest [..., e], P >= smallest, scale sum |q_i k_i| <= A."""
        info = torch.finfo(self.dtype)
        products = sum(abs(c) * absolute**j for j, c in enumerate(coefficients))  # |P|(A)
        weights = sum(abs(c) * self.head_dim**j for j, c in enumerate(coefficients))  # |P|(d)
        weights += (self.head_dim + 1) ** self.degree
        powers = self.entry ** (2 * self.degree)
        values = largest.clamp(min=1)
        if smallest <= 0:
            return torch.full_like(largest, math.inf)
        divisor = coefficients[2] if self.degree == 2 else 1.0  # the completed square sums P / c_2
        relative = self.relative() * products / smallest
        underflow = 16 * self.calls * (self.degree + 1) * info.tiny * powers * weights / smallest * max(1.0, divisor)
        if not relative + underflow < 1:
            return torch.full_like(largest, math.inf)
        error = 2 * (relative * largest + underflow * values) / (1 - relative - underflow)
        error = error + info.eps / 2 * (largest + error) + info.tiny  # the division
        overflows = 4 * self.tokens * weights * powers * values >= info.max * min(1.0, divisor)
        return torch.where(overflows, math.inf, error * (1 + 2.0**-40))


def _stored(error: Tensor, largest: Tensor, computed: torch.dtype, dtype: torch.dtype) -> Tensor:
    """The rounding error after the output, computed in one dtype, was rounded to `dtype`.

    The output lies within `error` of a mean of the values. PyTorch takes float64 to half precision by way of float32,
    which rounds twice.
    """
    steps = [torch.float32] if computed == torch.float64 and dtype.itemsize <= 4 else []
    steps += [dtype] if dtype.itemsize < 4 else []
    for step in steps:
        info = torch.finfo(step)
        smallest = info.smallest_normal * (info.eps if step == torch.float16 else 1)  # of float16 none is flushed
        error = (error + _unit_roundoff(step) * (largest + error) + smallest) * (1 + 2.0**-50)
        error = torch.where(largest + error > info.max, math.inf, error)
    return error


def _unit_roundoff(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


def _gamma(count: int, unit: float) -> float:
    return count * unit / (1 - count * unit) if count * unit < 1 else math.inf


def logit_bounds(q: Tensor, k: Tensor, *, scale: float | None = None) -> LogitBounds:
    """Bounds on |scale q.k| over queries [..., M, d] and keys [..., N, d]; memory O(M + N) per head.

    They are measured, and raised by what rounding may have taken from them.
    """
    unit, d = torch.finfo(q.dtype).eps / 2, q.shape[-1]
    factor = abs(logit_scale(scale, q)) * (1 + 4 * unit)
    with full_precision(q.device):
        lengths = q.norm(dim=-1).amax(-1) * k.norm(dim=-1).amax(-1) * (1 + (2 * d + 8) * unit)
        parts = [(part @ k.mT).abs().amax((-2, -1)) for part in q.split(_CHUNK, -2)]
        largest = torch.stack(parts).amax(0) + (d + 4) * unit * lengths
    return LogitBounds(factor * largest, factor * lengths)
