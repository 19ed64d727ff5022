"""Softmax attention whose queries, keys and values are bounded by construction (after arXiv 2502.16490).

Queries and keys are normalised to length 1 and the logit is tau times their cosine, with a learned 0 < tau < max_tau
for each head; values are normalised to length 1 too (the projection behind the attention learns any scale). So every
entry of Q, K and V is bounded by R = max(1, sqrt(max_tau)) whatever the weights are, and a polynomial may stand in for
exp: `LowRankAttention` has the same parameters and does that.

B: images, A: heads, d: width of a head, T: tokens of the scales at hand, lengths: tokens of each scale at hand, coarse
to fine (their sum is T).
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from flowgression.errors import InputError
from flowgression.layers.softmax_attention import CachingKeys
from flowgression.ops.softmax import KeyValueCache, block_softmax

MAX_TAU = 5.0  # float32 resolves weights down to exp(-2 tau) = 5e-5 of the largest
START = 0.75  # tau of a new model, as a share of its bound


def check_tau(tau: float) -> None:
    """Raise InputError unless 0 < tau <= 5."""
    if not 0 < tau <= MAX_TAU:
        raise InputError(
            f"tau is {tau}, out of range: it bounds the logits tau * cosine and must lie in (0, {MAX_TAU:g}], beyond "
            "which float32 loses weights of size exp(-2 tau). Degree 2 suits tau up to 2, degree 4 up to 4."
        )


class CosineLogits(nn.Module):
    """Logits tau cos(q, k - centre), and what an attention on them shares, exact or polynomial.

    Softmax does not change when all keys are moved by the same vector, but their bound does: `centre` [A, d] is that
    vector, 0 in a new model, measured when a trained one is converted. It is fixed, as a mean over the keys at hand
    would tell coarse scales about finer ones.

    Args:
        num_heads: A; head_size: d.
        max_tau: bound on the logits, in (0, 5].
        unit_values: values are normalised to length 1 as well.
        causal: True: a token sees its own and all coarser scales; False: only its own scale.

    Raises:
        InputError: max_tau out of range.
    """

    centre: Tensor

    def __init__(self, num_heads: int, head_size: int, max_tau: float, *, unit_values: bool, causal: bool):
        super().__init__()
        check_tau(max_tau)
        self.causal = causal
        self.num_heads, self.head_size = num_heads, head_size
        self.max_tau = max_tau
        self.unit_values = unit_values
        self.tau_logit = nn.Parameter(torch.full((num_heads,), math.log(START / (1 - START))))
        self.register_buffer("centre", torch.zeros(num_heads, head_size))

    @property
    def tau(self) -> Tensor:
        """[A]: the learned factor of each head. A sigmoid, since a hard clamp would stop learning at its ends."""
        return self.max_tau * self.tau_logit.float().sigmoid()

    @torch.no_grad()
    def set_tau(self, tau: Tensor) -> None:
        """Start from tau [A]; what reaches max_tau is set just below it.

        Raises:
            InputError: a tau that is not positive and finite.
        """
        if not (tau.isfinite() & (tau > 0)).all():
            raise InputError(f"tau must be positive and finite, one number per head; got {tau.tolist()}.")
        self.tau_logit.copy_(torch.logit((tau.double() / self.max_tau).clamp(max=0.98)))

    def logit_factors(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """q, k [B, A, T, d] -> the same of lengths tau and 1, at least float32: their products are the logits."""
        wide = torch.promote_types(q.dtype, torch.float32)
        k = k.to(wide) - self.centre[:, None].to(wide)
        return normalize(q.to(wide), dim=-1) * self.tau[:, None, None].to(wide), normalize(k, dim=-1)

    def values(self, v: Tensor) -> Tensor:
        """v [B, A, T, d] as it is averaged: of length 1 with `unit_values`."""
        if not self.unit_values:
            return v
        return normalize(v.to(torch.promote_types(v.dtype, torch.float32)), dim=-1).to(v.dtype)


class BoundedAttention(CachingKeys, CosineLogits):
    """softmax(tau cos(q, k - centre)) v / |v|: exact attention with the parameters of `LowRankAttention`.

    Takes the place of `SoftmaxAttention`, with the same key-value cache.
    """

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], state: KeyValueCache | None = None
    ) -> tuple[Tensor, KeyValueCache | None]:
        """q, k, v [B, A, T, d] -> [B, A, T, d] and the extended cache; with a cache also earlier scales are seen."""
        dtype = v.dtype
        q, k = self.logit_factors(q, k)
        v = self.values(v)
        if state is not None:
            state = state.extend(k.to(state.keys.dtype), v)
            k, v = state.filled()
        q, k, v = q.to(dtype), k.to(dtype), v.to(dtype)
        return block_softmax(q, k, v, lengths, causal=self.causal, scale=1.0), state
