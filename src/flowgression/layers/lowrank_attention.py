"""Polynomial attention over maps of several scales, with logits bounded by construction (FastFlowAR).

Queries and keys are normalised to length 1 and the logit is tau times their cosine, with a learned 0 < tau < B for each
head. So no input can leave the interval on which the polynomial stands in for exp, and the criterion of bounded entries
(arXiv 2502.16490) is met by design.

B: images, A: heads, d: width of a head, T: tokens of the scales at hand, lengths: tokens of each scale at hand, coarse
to fine (their sum is T), r = C(d+g, g): rank of the polynomial of degree g.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize

from flowgression.errors import InputError
from flowgression.ops.lowrank import (
    check_memory,
    lowrank_attention,
    minimax_exp,
    naive_polynomial_attention,
    rank,
)

MAX_TAU = 5.0  # float32 resolves weights down to exp(-2 tau) = 5e-5 of the largest
START = 0.75  # tau of a new model, as a share of its bound


@dataclass(frozen=True)
class LowRank:
    """What replaces exp: its relative minimax polynomial of even degree `degree` on [-max_tau, max_tau].

    Raises:
        InputError: odd degree, or max_tau outside of (0, 5].
    """

    degree: int
    max_tau: float

    def __post_init__(self) -> None:
        check_tau(self.max_tau)
        minimax_exp(self.degree, self.max_tau)  # refuses odd degrees


def check_tau(tau: float) -> None:
    """Raise InputError unless 0 < tau <= 5."""
    if not 0 < tau <= MAX_TAU:
        raise InputError(
            f"tau is {tau}, out of range: it bounds the logits tau * cosine and must lie in (0, {MAX_TAU:g}], beyond "
            "which float32 loses weights of size exp(-2 tau). Degree 2 suits tau up to 2, degree 4 up to 4."
        )


@dataclass(frozen=True)
class LowRankState:
    """All scales seen so far, folded into [B, A, r, d + 1] numbers however many they are; None before the first."""

    batch_size: int
    sums: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory in bytes: 0 before the first scale, and the same after every other."""
        return 0 if self.sums is None else self.sums.nbytes


class LowRankAttention(nn.Module):
    """sum_j P(tau cos(q_i, k_j - centre)) v_j / sum_j P(tau cos(q_i, k_j - centre)), with P in place of exp.

    Takes the place of `SoftmaxAttention`. The weights are computed in float32 also in half precision. Softmax does not
    change when all keys are moved by the same vector, but their bound does: `centre` [A, d] is that vector, 0 in a new
    model, measured when a trained one is converted. It is fixed, as a mean over the keys at hand would tell coarse
    scales about finer ones.

    Args:
        num_heads: A; head_size: d.
        causal: True: a token sees its own and all coarser scales; False: only its own scale.
        lowrank: degree and bound of the polynomial.

    Raises:
        InputError: a rank so high that the states of one image exceed the memory.
    """

    centre: Tensor
    shift_invariant = False  # adding one vector to all keys changes a polynomial's weights

    def __init__(self, num_heads: int, head_size: int, lowrank: LowRank, *, causal: bool):
        super().__init__()
        self.causal = causal
        self.lowrank = lowrank
        self.tau_logit = nn.Parameter(torch.full((num_heads,), math.log(START / (1 - START))))
        self.register_buffer("centre", torch.zeros(num_heads, head_size))
        check_memory(head_size, head_size, lowrank.degree, num_heads, torch.float32, self.centre.device)

    @property
    def _polynomial(self) -> dict[str, Any]:
        return {"degree": self.lowrank.degree, "bound": self.lowrank.max_tau, "scale": 1.0}

    @property
    def tau(self) -> Tensor:
        """[A]: the learned factor of each head. A sigmoid, since a hard clamp would stop learning at its ends."""
        return self.lowrank.max_tau * self.tau_logit.float().sigmoid()

    @torch.no_grad()
    def set_tau(self, tau: Tensor) -> None:
        """Start from tau [A]; what reaches max_tau is set just below it.

        Raises:
            InputError: a tau that is not positive and finite.
        """
        if not (tau.isfinite() & (tau > 0)).all():
            raise InputError(f"tau must be positive and finite, one number per head; got {tau.tolist()}.")
        self.tau_logit.copy_(torch.logit((tau.double() / self.lowrank.max_tau).clamp(max=0.98)))

    def state_bytes(self, batch_size: int) -> int:
        """Memory of the state after any scale: 4 B A r (d + 1)."""
        heads, width = self.centre.shape
        return 4 * batch_size * heads * rank(width, self.lowrank.degree) * (width + 1)

    def logit_factors(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """q, k [B, A, T, d] -> the same of lengths tau and 1, at least float32: their products are the logits."""
        wide = torch.promote_types(q.dtype, torch.float32)
        k = k.to(wide) - self.centre[:, None].to(wide)
        return normalize(q.to(wide), dim=-1) * self.tau[:, None, None].to(wide), normalize(k, dim=-1)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], state: LowRankState | None = None
    ) -> tuple[Tensor, LowRankState | None]:
        """q, k, v [B, A, T, d] -> [B, A, T, d] and the state with these scales; with a state earlier ones are seen.

        Raises:
            InputError: a state of another batch size.
        """
        if state is not None and state.batch_size != len(q):
            raise InputError(
                f"the state was made for a batch of {state.batch_size} but got {len(q)} images; make a state of that "
                "batch size (with guidance: of both halves)."
            )
        q, k = self.logit_factors(q, k)
        if not self.causal:
            return self._within_scales(q, k, v, lengths), state
        blocks = lengths if len(lengths) > 1 else None
        if state is None:
            return self._attend(q, k, v, blocks), None
        out, after = self._attend_with_state(q, k, v, blocks, state.sums)
        return out, LowRankState(len(q), after)  # a new value: older ones stay true

    def _within_scales(self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
        parts = zip(*(x.split(list(lengths), dim=2) for x in (q, k, v)), strict=True)
        outputs = [self._attend(*part) for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)

    # torch.compile leaves these two as they are: it would trace the search for the polynomial too.
    @torch.compiler.disable
    def _attend_with_state(
        self, q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[int] | None, sums: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        result = lowrank_attention(q, k, v, **self._polynomial, block_lengths=blocks, state=sums)
        return result.output, result.state

    @torch.compiler.disable
    def _attend(self, q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[int] | None = None) -> Tensor:
        if k.shape[2] > rank(k.shape[3], self.lowrank.degree):
            return lowrank_attention(q, k, v, **self._polynomial, block_lengths=blocks).output
        # With fewer tokens than features, the matrix of logits is the smaller thing to make; the numbers are the same.
        with torch.autocast(q.device.type, enabled=False):
            dense = naive_polynomial_attention(q, k, v.to(q.dtype), **self._polynomial, block_lengths=blocks)
        return dense.output.to(v.dtype)
