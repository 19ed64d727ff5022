"""Error balls: how far a tensor can be from the one at hand, carried through the layers of a FlowAR.

A ball is a tensor and a radius for each token: the other tensor differs by at most that much in Euclidean norm. Every
function below is a lemma: if the other input lies in the ball that goes in, the other output lies in the ball that
comes out. They follow the error analysis of arXiv 2502.16490 (attention, MLP, resampling, flow matching), with norms of
the actual weights and the values at hand in place of O(.). All are theorems of exact arithmetic, evaluated in float64.

B: images, T: tokens, D: width, A: heads, d: width of a head, r: radius.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, silu

GELU_SLOPE = 1.1290  # the largest |GELU'|, at x = sqrt(2): 1.12890...
SILU_SLOPE = 1.0999  # the largest |SiLU'|, at x = 2.3994: 1.09984...


@dataclass(frozen=True)
class Ball:
    """All tensors x with |x - centre|_2 <= radius for each token.

    centre: [..., D] float64; radius: the shape of centre without its last dimension, >= 0.
    """

    centre: Tensor
    radius: Tensor

    def __add__(self, other: "Ball") -> "Ball":
        return Ball(self.centre + other.centre, self.radius + other.radius)

    def largest(self) -> Tensor:
        """[...]: the largest |entry| of the centre."""
        return self.centre.abs().amax(-1)

    def split(self, lengths: Sequence[int]) -> list["Ball"]:
        """Along the tokens, the last dimension of the radius."""
        parts = zip(self.centre.split(list(lengths), -2), self.radius.split(list(lengths), -1), strict=True)
        return [Ball(*part) for part in parts]


def exact(x: Tensor) -> Ball:
    """The ball of radius 0 around x [..., D]."""
    return Ball(x, x.new_zeros(x.shape[:-1]))


def concatenate(balls: Sequence[Ball]) -> Ball:
    """Along the tokens."""
    return Ball(torch.cat([ball.centre for ball in balls], -2), torch.cat([ball.radius for ball in balls], -1))


def spectral_norm(weight: Tensor) -> float:
    """|W|_2, enlarged by what float64 may have lost."""
    return torch.linalg.matrix_norm(weight.double(), ord=2).item() * (1 + 1e-12)


def linear(x: Ball, layer: nn.Linear) -> Ball:
    """|W x - W x'| <= |W|_2 |x - x'|."""
    return Ball(layer(x.centre), spectral_norm(layer.weight) * x.radius)


def scaled(x: Ball, factor: float) -> Ball:
    return Ball(factor * x.centre, abs(factor) * x.radius)


def product(a: Ball, b: Ball) -> Ball:
    """Entry by entry: |a b - a' b'| <= max|a| r_b + max|b| r_a + r_a r_b. Shapes broadcast."""
    radius = a.largest() * b.radius + b.largest() * a.radius + a.radius * b.radius
    return Ball(a.centre * b.centre, radius)


def plus_one(x: Ball) -> Ball:
    return Ball(1 + x.centre, x.radius)


def activation_gelu(x: Ball) -> Ball:
    """GELU is Lipschitz with the constant GELU_SLOPE."""
    return Ball(gelu(x.centre), GELU_SLOPE * x.radius)


def activation_silu(x: Ball) -> Ball:
    """SiLU is Lipschitz with the constant SILU_SLOPE."""
    return Ball(silu(x.centre), SILU_SLOPE * x.radius)


def rms_normalised(x: Ball, eps: float, weight: Tensor | None) -> Ball:
    """f(x) = sqrt(D) x / sqrt(|x|^2 + D eps), times the weight.

    The derivative at x has norm sqrt(D) / sqrt(|x|^2 + D eps), and no point of the segment between x and x' is shorter
    than |x| - r. Both results are also shorter than sqrt(D).
    """
    width = x.centre.shape[-1]
    length = x.centre.norm(dim=-1)
    shortest = (length - x.radius).clamp(min=0)
    centre = x.centre * torch.rsqrt(x.centre.square().mean(-1, keepdim=True) + eps)
    radius = x.radius * math.sqrt(width) / (shortest.square() + width * eps).sqrt()
    radius = torch.minimum(radius, math.sqrt(width) + centre.norm(dim=-1))
    if weight is None:
        return Ball(centre, radius)
    return Ball(centre * weight, radius * weight.abs().max())


def unit(x: Ball) -> Ball:
    """x / |x|: |x/|x| - y/|y|| <= 2 |x - y| / (|x| + |y|), and at most 2."""
    length = x.centre.norm(dim=-1)
    both = 2 * length - x.radius  # |x| + |y| is at least this
    radius = torch.where(x.radius < length, 2 * x.radius / both.clamp(min=1e-300), 2.0).clamp(max=2.0)
    return Ball(x.centre / length.clamp(min=1e-12)[..., None], radius)


def resampled(pixels: Ball, rows: Tensor, columns: Tensor) -> Ball:
    """A separable linear map of an image [B, h, w, C]: rows [H, h], columns [W, w] -> [B, H, W, C].

    A new pixel is a weighted sum of old ones, so its radius is at most the sum of theirs times the |weights|.
    """
    centre = torch.einsum("Hh,bhwc,Ww->bHWc", rows, pixels.centre, columns)
    return Ball(centre, torch.einsum("Hh,bhw,Ww->bHW", rows.abs(), pixels.radius, columns.abs()))


def attention(q: Ball, k: Ball, v: Ball, epsilon: Tensor | float) -> tuple[Tensor, Tensor]:
    """Radius of softmax attention around that of another attention whose weights are off by factors in [1-eps, 1+eps].

    Logits are plain products. |q.k - q'.k'| <= r_q |k| + |q| r_k + r_q r_k =: eta, so the weights of the two differ by
    factors of ratio at most rho = (1+eps)/(1-eps) e^(2 eta), and normalised rows that differ so move a mean of v by at
    most tanh(ln(rho) / 4) times the diameter of the v. The v themselves move the mean by at most their largest radius.

    Args:
        q: [B, A, M, d]; k, v: [B, A, N, d]: what the queries compare.
        epsilon: eps in [0, 1), or [A]; 1 where nothing is known of the weights.

    Returns:
        radius [B, A, M]; and the part of it that the weights at the centre cause (eps alone), of the same shape.
    """
    lengths_q, lengths_k = q.centre.norm(dim=-1), k.centre.norm(dim=-1)
    # max over j of a sum, bounded by the sum of maxima: memory linear in M + N
    largest_k, largest_radius = lengths_k.amax(-1, keepdim=True), k.radius.amax(-1, keepdim=True)
    eta = q.radius * (largest_k + largest_radius) + lengths_q * largest_radius
    middle = v.centre.mean(-2, keepdim=True)
    diameter = 2 * (v.centre - middle).norm(dim=-1).amax(-1, keepdim=True)
    own = torch.as_tensor(epsilon, dtype=torch.float64).clamp(max=1).atanh() / 2
    own = own.reshape(-1, 1) if own.ndim else own
    moved = torch.tanh(own + eta / 2) * diameter + v.radius.amax(-1, keepdim=True)
    return moved, (torch.tanh(own) * diameter).expand_as(moved)
