"""Error balls: how far a tensor can be from the one at hand, carried through the layers of a FlowAR.

A ball is a tensor and a radius for each token: the other tensor differs by at most that much in Euclidean norm. Every
function below is a lemma: if the other input lies in the ball that goes in, the other output, in exact arithmetic, lies
in the ball that comes out. They follow the error analysis of arXiv 2502.16490 (attention, MLP, resampling, flow
matching), with norms of the actual weights and the values at hand in place of O(.). Centres are computed in float64;
what that may lose is added to the radii, and radii are rounded up (`rounding`).

B: images, T: tokens, D: width, A: heads, d: width of a head, r: radius.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import gelu, silu

from flowgression.theory.error.rounding import (
    FUNCTION,
    TINY,
    UNIT,
    frobenius,
    gamma,
    length,
    shortest,
    spectral_norm,
    upward,
)

GELU_SLOPE = 1.1290  # the largest |GELU'|, at x = sqrt(2): 1.12890...
SILU_SLOPE = 1.0999  # the largest |SiLU'|, at x = 2.3994: 1.09984...
ACTIVATION_LOST = 16 * UNIT  # times |x|: erf and exp are off by FUNCTION, their argument by 2 UNIT, four operations
SHORTEST = 1e-12  # vectors shorter than that are divided by it, as in torch.nn.functional.normalize


@dataclass(frozen=True)
class Ball:
    """All tensors x with |x - centre|_2 <= radius for each token.

    centre: [..., D] float64; radius: the shape of centre without its last dimension, >= 0.
    """

    centre: Tensor
    radius: Tensor

    def __add__(self, other: "Ball") -> "Ball":
        return rounded(self.centre + other.centre, self.radius + other.radius)

    def largest(self) -> Tensor:
        """[...]: the largest |entry| of the centre."""
        return self.centre.abs().amax(-1)

    def split(self, lengths: Sequence[int]) -> list["Ball"]:
        """Along the tokens, the last dimension of the radius."""
        parts = zip(self.centre.split(list(lengths), -2), self.radius.split(list(lengths), -1), strict=True)
        return [Ball(*part) for part in parts]


def rounded(centre: Tensor, radius: Tensor, roundings: int = 1) -> Ball:
    """A centre whose entries went through so many roundings each, and the radius it would have without them."""
    return Ball(centre, upward(radius + gamma(2 * roundings) * length(centre)))


def exact(x: Tensor) -> Ball:
    """The ball of radius 0 around x [..., D]."""
    return Ball(x, x.new_zeros(x.shape[:-1]))


def concatenate(balls: Sequence[Ball]) -> Ball:
    """Along the tokens."""
    return Ball(torch.cat([ball.centre for ball in balls], -2), torch.cat([ball.radius for ball in balls], -1))


class Norms(NamedTuple):
    """What a linear layer may do to a radius, each [...] for weights [..., m, n]: at least |W|_2, |W|_F, |b|_2."""

    spectral: Tensor
    frobenius: Tensor
    bias: Tensor

    @classmethod
    def of(cls, weight: Tensor, bias: Tensor | None) -> "Norms":
        """weight: [..., m, n]; bias: [..., m]."""
        none = weight.new_zeros(weight.shape[:-2], dtype=torch.float64)
        return cls(spectral_norm(weight), frobenius(weight.double()), none if bias is None else length(bias.double()))

    def radius(self, x: Ball) -> Tensor:
        """|W x - W x'| <= |W|_2 |x - x'|, and of n + 1 terms |W_i| |x| + |b_i| the sum loses gamma(n + 2)."""
        lost = gamma(x.centre.shape[-1] + 2) * (self.frobenius * length(x.centre) + self.bias)
        return upward(self.spectral * x.radius + lost)


def linear(x: Ball, weight: Tensor, bias: Tensor | None, norms: Norms) -> Ball:
    """W x + b; norms: those of this weight and bias."""
    return Ball(torch.nn.functional.linear(x.centre, weight, bias), norms.radius(x))


def scaled(x: Ball, factor: float) -> Ball:
    """factor x; the factor may be the rounded sum or difference of two numbers."""
    return rounded(factor * x.centre, upward(abs(factor) * x.radius), 2)


def product(a: Ball, b: Ball) -> Ball:
    """Entry by entry: |a b - a' b'| <= max|a| r_b + max|b| r_a + r_a r_b. Shapes broadcast."""
    radius = a.largest() * b.radius + b.largest() * a.radius + a.radius * b.radius
    return rounded(a.centre * b.centre, radius)


def plus_one(x: Ball) -> Ball:
    return rounded(1 + x.centre, x.radius)


def activation_gelu(x: Ball) -> Ball:
    """GELU(x) = x (1 + erf(x / sqrt(2))) / 2 is Lipschitz with the constant GELU_SLOPE."""
    return Ball(gelu(x.centre), upward(GELU_SLOPE * x.radius + ACTIVATION_LOST * length(x.centre)))


def activation_silu(x: Ball) -> Ball:
    """SiLU is Lipschitz with the constant SILU_SLOPE."""
    return Ball(silu(x.centre), upward(SILU_SLOPE * x.radius + ACTIVATION_LOST * length(x.centre)))


def rms_normalised(x: Ball, eps: float, weight: Tensor | None) -> Ball:
    """f(x) = sqrt(D) x / sqrt(|x|^2 + D eps), times the weight.

    The derivative at x has norm sqrt(D) / sqrt(|x|^2 + D eps), and no point of the segment between x and x' is shorter
    than |x| - r. Both results are also no longer than sqrt(D), which is all that is known where x and eps are 0.
    """
    width = x.centre.shape[-1]
    mean = x.centre.square().mean(-1, keepdim=True) + eps
    resolved = mean > TINY  # else squares may have been lost, or there is nothing to divide by
    centre = torch.where(resolved, x.centre * torch.rsqrt(mean.clamp(min=TINY)), 0.0)
    slope = math.sqrt(width) / (shortest(x.centre, x.radius).square() + width * eps).sqrt()  # inf for 1 / 0
    lost = (gamma(width + 8) + FUNCTION) * length(centre)
    near = torch.where(slope.isfinite() & resolved[..., 0], upward(slope * x.radius + lost), math.inf)
    radius = torch.minimum(near, upward(math.sqrt(width) + length(centre)))
    if weight is None:
        return Ball(centre, radius)
    return rounded(centre * weight, radius * weight.abs().max())


def unit(x: Ball) -> Ball:
    """x / max(|x|, SHORTEST): |x/|x| - y/|y|| <= 2 |x - y| / (|x| + |y|), and at most 2; shorter vectors move less."""
    both = shortest(x.centre, x.radius) + shortest(x.centre, torch.zeros_like(x.radius))  # at most |x| + |y|
    radius = torch.where(both > 0, 2 * x.radius / both.clamp(min=1e-300), 2.0).clamp(max=2.0)
    centre = x.centre / x.centre.norm(dim=-1).clamp(min=SHORTEST)[..., None]
    return rounded(centre, radius, x.centre.shape[-1] + 8)


def resampled(pixels: Ball, rows: Tensor, columns: Tensor) -> Ball:
    """A separable linear map of an image [B, h, w, C]: rows [H, h], columns [W, w] -> [B, H, W, C].

    A new pixel is a weighted sum of old ones, so its radius is at most the sum of theirs times the |weights|.
    """
    terms = rows.shape[1] * columns.shape[1]
    centre = torch.einsum("Hh,bhwc,Ww->bHWc", rows, pixels.centre, columns)
    each = pixels.radius + gamma(terms + 4) * length(pixels.centre)
    return Ball(centre, upward(torch.einsum("Hh,bhw,Ww->bHW", rows.abs(), each, columns.abs()), terms + 16))


def attention(
    q: Ball, k: Ball, v: Ball, centre: Tensor, epsilon: Tensor | float, weights_lost: Tensor | float
) -> tuple[Tensor, Tensor]:
    """Radius of softmax attention around that of another attention whose weights are off by factors in [1-eps, 1+eps].

    Logits are plain products. |q.k - q'.k'| <= r_q |k| + |q| r_k + r_q r_k =: eta, so the weights of the two differ by
    factors of ratio at most rho = (1+eps)/(1-eps) e^(2 eta), and normalised rows that differ so move a mean of v by at
    most tanh(ln(rho) / 4) times the diameter of the v. The v themselves move the mean by at most their largest radius.
    A logit at the centre loses gamma(d) |q| |k|, which joins eta, and so does what the weights lose; their mean of N
    values loses gamma(2 N + 8) max|v|. Whatever the weights are, the mean lies among the v, hence the second bound.

    Args:
        q: [B, A, M, d]; k, v: [B, A, N, d]: what the queries compare.
        centre: [B, A, M, d], the attention as computed.
        epsilon: eps in [0, 1), or [A]; 1 where nothing is known of the weights.
        weights_lost: bound on the |ln(computed weight / weight)| that rounding causes, apart from that of the logit;
            infinite where weights may be lost altogether.

    Returns:
        radius [B, A, M]; and the part of it that the weights at the centre cause (eps alone), of the same shape.
    """
    lengths_q, lengths_k = length(q.centre), length(k.centre)
    # max over j of a sum, bounded by the sum of maxima: memory linear in M + N
    largest_k, largest_radius = lengths_k.amax(-1, keepdim=True), k.radius.amax(-1, keepdim=True)
    eta = q.radius * (largest_k + largest_radius) + lengths_q * largest_radius
    eta = upward(eta + gamma(q.centre.shape[-1] + 2) * lengths_q * largest_k + weights_lost)
    middle = v.centre.mean(-2, keepdim=True)
    reach = length(v.centre - middle).amax(-1, keepdim=True)
    own = torch.as_tensor(epsilon, dtype=torch.float64).clamp(max=1).atanh() / 2
    own = own.reshape(-1, 1) if own.ndim else own
    lost = gamma(2 * v.centre.shape[-2] + 8) * length(v.centre).amax(-1, keepdim=True)
    moved = upward(torch.tanh(upward(own + eta / 2)) * 2 * reach + lost + torch.where(eta.isinf(), math.inf, 0.0))
    among = upward(length(centre - middle) + reach)
    radius = upward(torch.minimum(moved, among) + v.radius.amax(-1, keepdim=True))
    return radius, torch.minimum(upward(torch.tanh(own) * 2 * reach), among)
