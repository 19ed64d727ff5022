"""Polynomial attention over maps of several scales, with logits bounded by construction (FastFlowAR).

Queries and keys are normalised to length 1 and the logit is tau times their cosine, with a learned 0 < tau < B for each
head. So no input can leave the interval on which the polynomial stands in for exp (arXiv 2502.16490). Values are
bounded only with `unit_values`.

B: images, A: heads, d: width of a head, T: tokens of the scales at hand, lengths: tokens of each scale at hand, coarse
to fine (their sum is T), r = C(d+g, g): rank of the polynomial of degree g.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.layers.bounded_attention import CosineLogits, check_tau
from flowgression.ops.lowrank import (
    check_memory,
    lowrank_attention,
    minimax_exp,
    rank,
)
from flowgression.ops.lowrank.dense import dense_attention
from flowgression.ops.lowrank.naive import visible_keys
from flowgression.ops.lowrank.summation import full_precision, reduced_precision
from flowgression.ops.lowrank.types import computing_dtype

DENSE_PER_RANK = 2  # so many tokens a feature, and logits are still faster on a CPU (measured for d = 4 to 16, g = 2),
MOST_DENSE = 256  # and up to so many tokens: a head's logits then fit a core's cache


@dataclass(frozen=True)
class LowRank:
    """Logits bounded by max_tau, and what replaces exp: its relative minimax polynomial of even degree `degree` there.

    degree: None keeps exp, that is exact softmax of bounded logits.
    unit_values: whether values are normalised to length 1, as queries and keys are.

    Raises:
        InputError: odd degree, or max_tau outside of (0, 5].
    """

    degree: int | None
    max_tau: float
    unit_values: bool = False

    def __post_init__(self) -> None:
        check_tau(self.max_tau)
        if self.degree is not None:
            minimax_exp(self.degree, self.max_tau)  # refuses odd degrees


@dataclass(frozen=True)
class LowRankState:
    """All scales seen so far, folded into [B, A, r, d + 1] numbers however many they are; None before the first."""

    batch_size: int
    sums: Tensor | None = None

    @property
    def nbytes(self) -> int:
        """Memory in bytes: 0 before the first scale, and the same after every other."""
        return 0 if self.sums is None else self.sums.nbytes


class PolynomialForm:
    """What attentions with a polynomial in place of exp share; they differ in what is compared and averaged.

    causal: True: a token sees its own and all coarser scales; False: only its own scale.
    degree, bound: of the polynomial; num_heads, head_size: A, d.
    """

    causal: bool

    def _set_polynomial(self, degree: int, bound: float, num_heads: int, head_size: int) -> None:
        """Raises InputError for an odd degree, a bound out of range, or states of one image that exceed the memory."""
        self.degree, self.bound = degree, bound
        self.num_heads, self.head_size = num_heads, head_size
        self.coefficients = minimax_exp(degree, bound).coefficients
        check_memory(head_size, head_size, degree, num_heads, torch.float32, torch.get_default_device())

    @property
    def _polynomial(self) -> dict[str, Any]:
        return {"degree": self.degree, "bound": self.bound, "scale": 1.0}

    def new_state(self, batch_size: int, num_tokens: int, dtype: torch.dtype, device: torch.device) -> LowRankState:
        """An empty state for `batch_size` images; its size depends on nothing else."""
        return LowRankState(batch_size)

    def state_bytes(self, batch_size: int, num_tokens: int, dtype: torch.dtype) -> int:
        """Memory of the state after any scale: 4 B A r (d + 1)."""
        size = rank(self.head_size, self.degree) * (self.head_size + 1)
        return 4 * batch_size * self.num_heads * size

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], state: LowRankState | None
    ) -> tuple[Tensor, LowRankState | None]:
        """sum_j P(q_i.k_j) v_j / sum_j P(q_i.k_j), where queries see what `causal` lets them, and the new state.

        Raises:
            InputError: a state of another batch size.
        """
        if state is not None and state.batch_size != len(q):
            raise InputError(
                f"the state was made for a batch of {state.batch_size} but got {len(q)} images; make a state of that "
                "batch size (with guidance: of both halves)."
            )
        if not self.causal:
            return self._within_scales(q, k, v, lengths), state
        blocks = lengths if len(lengths) > 1 else None
        if state is None:
            return self._attend(q, k, v, blocks), None
        out, after = self._attend_with_state(q, k, v, blocks, state.sums)
        return out, LowRankState(len(q), after)  # a new value: older ones stay true

    def _within_scales(self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]) -> Tensor:
        # A list, since torch.compile of 2.6 cannot leave a graph in the middle of a strict zip.
        parts = list(zip(*(x.split(list(lengths), dim=2) for x in (q, k, v)), strict=True))
        outputs = [self._attend(*part) for part in parts]
        return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)

    def _attend_with_state(
        self, q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[int] | None, sums: Tensor | None
    ) -> tuple[Tensor, Tensor]:
        result = lowrank_attention(q, k, v, **self._polynomial, block_lengths=blocks, state=sums)
        return result.output, result.state

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, blocks: Sequence[int] | None = None) -> Tensor:
        # With few tokens the matrix of logits is faster to make than features; the numbers are the same.
        # A compiled graph takes its matrix products as PyTorch is set; the certificate needs them in full precision.
        if k.shape[2] > self._most_dense(q) or (torch.compiler.is_compiling() and reduced_precision()):
            return lowrank_attention(q, k, v, **self._polynomial, block_lengths=blocks).output
        wide = computing_dtype(q, k, v)
        with full_precision(q.device):
            seen = None if blocks is None else visible_keys(blocks, 0, q.device)
            return dense_attention(q.to(wide), k.to(wide), v.to(wide), self.coefficients, seen).to(v.dtype)

    def _most_dense(self, q: Tensor) -> int:
        """Up to how many tokens logits are made; on a GPU, where memory counts, no more than features would take."""
        features = rank(q.shape[3], self.degree)
        return min(DENSE_PER_RANK * features, MOST_DENSE) if q.device.type == "cpu" else features


class LowRankAttention(PolynomialForm, CosineLogits):
    """sum_j P(tau cos(q_i, k_j - centre)) v_j / sum_j P(tau cos(q_i, k_j - centre)), with P in place of exp.

    Takes the place of `BoundedAttention`, with the same parameters. The weights are computed in float32 also in half
    precision.

    Args:
        num_heads: A; head_size: d.
        causal: True: a token sees its own and all coarser scales; False: only its own scale.
        lowrank: degree and bound of the polynomial.

    Raises:
        InputError: a rank so high that the states of one image exceed the memory.
    """

    def __init__(self, num_heads: int, head_size: int, lowrank: LowRank, *, causal: bool):
        super().__init__(num_heads, head_size, lowrank.max_tau, unit_values=lowrank.unit_values, causal=causal)
        assert lowrank.degree is not None
        self._set_polynomial(lowrank.degree, lowrank.max_tau, num_heads, head_size)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], state: LowRankState | None = None
    ) -> tuple[Tensor, LowRankState | None]:
        """q, k, v [B, A, T, d] -> [B, A, T, d] and the state with these scales; with a state earlier ones are seen.

        Raises:
            InputError: a state of another batch size.
        """
        return self.attend(*self.logit_factors(q, k), self.values(v), lengths, state)


class _AroundSoftmax(nn.Module):
    """What stands around a softmax attention: what it compares and averages, and a shift of its keys.

    `shift` [A, d], 0 at first, is subtracted from all keys as they stand in the logits: no softmax changes, and logits
    may become smaller.
    """

    shift: Tensor

    def __init__(self, exact: Any, num_heads: int, head_size: int):
        super().__init__()
        self.exact = exact
        self.causal = exact.causal
        self.register_buffer("shift", torch.zeros(num_heads, head_size))

    def logit_factors(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """q, k [B, A, T, d] -> tensors, at least float32, whose products are the logits, less a number that all keys of
        a query share.
        """
        wide = torch.promote_types(k.dtype, torch.float32)  # in half precision each key would be rounded once more
        q, k = self.exact.logit_factors(q.to(torch.promote_types(q.dtype, torch.float32)), k.to(wide))
        return q, k - self.shift[:, None].to(wide)

    def values(self, v: Tensor) -> Tensor:
        """v [B, A, T, d] as it is averaged."""
        return self.exact.values(v)

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], state: LowRankState | None = None
    ) -> tuple[Tensor, LowRankState | None]:
        """As `LowRankAttention.forward`."""
        return self.attend(*self.logit_factors(q, k), self.values(v), lengths, state)  # type: ignore[operator]


class ApproximatedAttention(PolynomialForm, _AroundSoftmax):
    """A softmax attention with a polynomial in place of exp: the same weights, the same function up to its error.

    Args:
        exact: `SoftmaxAttention` or `BoundedAttention`; what it compares and averages, with its parameters.
        degree: g, even. bound: half-width of the polynomial's interval; only for logits within it is the error bounded.
        num_heads: A; head_size: d.

    Raises:
        InputError: an odd degree, a bound out of range, or a rank whose states exceed the memory.
    """

    def __init__(self, exact: Any, degree: int, bound: float, num_heads: int, head_size: int):
        super().__init__(exact, num_heads, head_size)
        self._set_polynomial(degree, bound, num_heads, head_size)


class _Heads(PolynomialForm, nn.Module):
    """The heads of an attention that share a polynomial; no parameters. heads: their numbers."""

    def __init__(self, heads: Sequence[int], degree: int, bound: float, head_size: int, *, causal: bool):
        super().__init__()
        self.heads, self.causal = list(heads), causal
        self._set_polynomial(degree, bound, len(self.heads), head_size)


class HeadwiseAttention(_AroundSoftmax):
    """`ApproximatedAttention` with a polynomial for each head: heads of small logits take a smaller degree.

    Heads of equal polynomials are computed together. The state has the largest rank for all heads, and zeros behind a
    head's own.

    Args:
        exact: as in `ApproximatedAttention`.
        polynomials: degree and half-width of the interval of each head, A pairs.
        head_size: d.

    Raises:
        InputError: another number of polynomials than heads; else as `ApproximatedAttention`.
    """

    def __init__(self, exact: Any, polynomials: Sequence[tuple[int, float]], head_size: int):
        super().__init__(exact, len(polynomials), head_size)
        if len(polynomials) != exact.num_heads:
            raise InputError(f"{len(polynomials)} polynomials for {exact.num_heads} heads; give one for each head.")
        self.polynomials = tuple(polynomials)
        members: dict[tuple[int, float], list[int]] = {}
        for head, polynomial in enumerate(self.polynomials):
            members.setdefault(polynomial, []).append(head)
        self.groups = nn.ModuleList(
            _Heads(heads, *polynomial, head_size, causal=self.causal) for polynomial, heads in members.items()
        )
        order = [head for heads in members.values() for head in heads]
        self._place = [order.index(head) for head in range(len(order))]
        self._state_shape = (max(rank(head_size, degree) for degree, _ in polynomials), head_size + 1)

    def new_state(self, batch_size: int, num_tokens: int, dtype: torch.dtype, device: torch.device) -> LowRankState:
        """As `PolynomialForm.new_state`."""
        return LowRankState(batch_size)

    def state_bytes(self, batch_size: int, num_tokens: int, dtype: torch.dtype) -> int:
        """Memory of the state after any scale: 4 B A r (d + 1) with the largest rank r."""
        return 4 * batch_size * len(self.polynomials) * self._state_shape[0] * self._state_shape[1]

    def attend(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], state: LowRankState | None
    ) -> tuple[Tensor, LowRankState | None]:
        """As `PolynomialForm.attend`, each head by its own polynomial."""
        outputs, sums = [], []
        for group in self.groups:
            part = cast(_Heads, group)
            heads, before = part.heads, state
            if state is not None and state.sums is not None:
                before = LowRankState(state.batch_size, state.sums[:, heads, : rank(part.head_size, part.degree)])
            out, after = part.attend(q[:, heads], k[:, heads], v[:, heads], lengths, before)
            outputs.append(out)
            if after is not None and after.sums is not None:
                sums.append(nn.functional.pad(after.sums, (0, 0, 0, self._state_shape[0] - after.sums.shape[2])))
        merged = torch.cat(outputs, dim=1)[:, self._place]
        return merged, LowRankState(len(q), torch.cat(sums, dim=1)[:, self._place]) if sums else state
