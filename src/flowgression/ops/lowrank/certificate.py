"""How far polynomial attention can be from softmax attention, without computing either.

Truncation. Every weight of a row is off by a factor in [1-eps, 1+eps], so the normalised row is off by factors whose
ratio is at most rho = (1+eps)/(1-eps). Moving a mean by such a tilt changes it by at most
tanh(ln(rho) / 4) (max v - min v); rows of two points attain this. It is a theorem, for logits within the bound.

Rounding. U and D are sums of products phi_a(q) S_a whose absolute values may add up to |P|(A), with |P| the polynomial
of the absolute coefficients and A a bound on scale sum_i |q_i k_i|, while D / N is at least min P >= (1-eps) exp(-B).
Both carry a relative error of m u |P|(A) / min P, u the unit roundoff, so U / D is off by at most twice that times
max |v|. m counts the roundings of one product, g + 8, and those of the two sums, which we take to grow with the square
root of their lengths (Higham and Mary 2019, "A new approach to probabilistic rounding error analysis"): this factor is
a model that was tested, not a theorem. Without this term the certificate would be false in float32.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.ops.lowrank.features import rank
from flowgression.ops.lowrank.minimax import minimax_exp
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
    """tanh(ln((1+eps)/(1-eps)) / 4): error over max v - min v for a relative error 0 <= eps < 1 of the weights."""
    return math.tanh(math.atanh(eps) / 2)


def error_certificate(
    v: Tensor,
    *,
    degree: int,
    bound: float,
    head_dim: int,
    dtype: torch.dtype | None = None,
    product_bound: float | None = None,
) -> ErrorCertificate:
    """Bound the error of `lowrank_attention` over these values, for any queries and keys with |scale q.k| <= bound.

    Args:
        v: all values [..., N, e] that a query may see.
        degree: g, even, >= 2.
        bound: B in (0, 12], a bound on |scale q.k|.
        head_dim: d, the width of queries and keys.
        dtype: the dtype that the attention is called with; that of v by default. Half precision is computed in float32
            and rounded once more at the end.
        product_bound: A >= B, a bound on |scale| sum_i |q_i k_i|; B by default, which holds for unit vectors, and in
            general where B is the bound of Cauchy and Schwarz.

    Returns:
        truncation and rounding, each [..., e] in float64, and their `total`.

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
    v = v.double() if v.device.type != "mps" else v.cpu().double()
    truncation = truncation_factor(polynomial.eps) * (v.amax(-2) - v.amin(-2))
    roundings = degree + 8 + math.sqrt(v.shape[-2]) + math.sqrt(rank(head_dim, degree))
    largest = sum(abs(c) * absolute**j for j, c in enumerate(polynomial.coefficients))
    smallest = (1 - polynomial.eps) * math.exp(-bound)
    computed = dtype if dtype == torch.float64 else torch.float32
    relative = 2 * roundings * _unit_roundoff(computed) * largest / smallest
    if dtype != computed:
        relative += _unit_roundoff(dtype) * (1 + relative)
    return ErrorCertificate(truncation, relative * v.abs().amax(-2))


def _unit_roundoff(dtype: torch.dtype) -> float:
    return torch.finfo(dtype).eps / 2


def logit_bounds(q: Tensor, k: Tensor, *, scale: float | None = None) -> LogitBounds:
    """Measure the bounds on |scale q.k| over queries [..., M, d] and keys [..., N, d]; memory O(M + N) per head."""
    factor = abs(logit_scale(scale, q))
    lengths = q.norm(dim=-1).amax(-1) * k.norm(dim=-1).amax(-1)
    parts = [(part @ k.mT).abs().amax((-2, -1)) for part in q.split(_CHUNK, -2)]
    return LogitBounds(factor * torch.stack(parts).amax(0), factor * lengths)
