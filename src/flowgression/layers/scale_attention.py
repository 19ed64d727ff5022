"""Multi-head attention over maps of several scales, exact or of low rank by configuration.

B: images, A: heads, d: width of a head, D = A * d, T: tokens of the scales at hand, lengths: tokens of each scale at
hand, coarse to fine (their sum is T).
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from flowgression.errors import InputError
from flowgression.layers.bounded_attention import BoundedAttention
from flowgression.layers.lowrank_attention import LowRank, LowRankAttention, LowRankState
from flowgression.layers.rotary import Rotation, apply_rotary
from flowgression.layers.softmax_attention import SoftmaxAttention
from flowgression.ops.softmax import KeyValueCache

AttentionState = KeyValueCache | LowRankState
"""What attention remembers of earlier scales: all keys and values, or their constant-size sums."""


def _split_heads(x: Tensor, parts: int, num_heads: int) -> Tensor:
    """[B, T, parts * D] -> [parts, B, A, T, d]."""
    return x.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4)


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Raise InputError unless `num_heads` heads fit `hidden_size`."""
    if hidden_size % num_heads:
        raise InputError(f"a width of {hidden_size} cannot be split into {num_heads} heads: it must be a multiple.")


def _make_attention(
    hidden_size: int, num_heads: int, lowrank: LowRank | None, *, causal: bool, dropout: float = 0.0
) -> SoftmaxAttention | BoundedAttention | LowRankAttention:
    check_heads(hidden_size, num_heads)
    if lowrank is None:
        return SoftmaxAttention(num_heads, hidden_size // num_heads, causal=causal, dropout=dropout)
    if dropout:
        raise InputError(
            f"attention_dropout is {dropout}, but bounded and low-rank attention drop no weights; set it to 0 or use "
            "exact attention."
        )
    if lowrank.degree is None:
        return BoundedAttention(
            num_heads, hidden_size // num_heads, lowrank.max_tau, unit_values=lowrank.unit_values, causal=causal
        )
    return LowRankAttention(num_heads, hidden_size // num_heads, lowrank, causal=causal)


class ScaleAttention(nn.Module):
    """Multi-head self-attention over scales with rotary positions. [B, T, D] -> [B, T, D].

    Args:
        hidden_size: D; num_heads: A.
        causal: True: a token sees its own and all coarser scales (FlowAR, arXiv 2412.15205, section 3.2);
            False: only its own scale.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        attention_dropout, dropout: of the attention weights and of the output.
        lowrank: bounded logits, with exp or a polynomial (FastFlowAR, arXiv 2502.16490); None: plain softmax attention.

    Raises:
        InputError: the heads do not fit the width, or dropout of weights that low-rank attention does not have.
    """

    def __init__(
        self,
        hidden_size: int,
        num_heads: int,
        *,
        causal: bool,
        qkv_bias: bool,
        attention_dropout: float = 0.0,
        dropout: float = 0.0,
        lowrank: LowRank | None = None,
    ):
        super().__init__()
        self.attention: Any = _make_attention(hidden_size, num_heads, lowrank, causal=causal, dropout=attention_dropout)
        self.num_heads = num_heads
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, rotation: Rotation, lengths: Sequence[int], state: Any = None
    ) -> tuple[Tensor, AttentionState | None]:
        """x [B, T, D], its rotation [T, d] and lengths; with a state also the earlier scales are seen."""
        qk, v = _split_heads(self.qkv(x), 3, self.num_heads).split((2, 1))
        q, k = apply_rotary(qk, rotation).unbind(0)
        out, state = self.attention(q, k, v.squeeze(0), lengths, state)
        return self.dropout(self.proj(out.transpose(1, 2).flatten(-2))), state

    def new_state(self, batch_size: int, num_tokens: int, dtype: torch.dtype) -> AttentionState:
        """An empty state; a key-value cache is allocated once, for `num_tokens` tokens, in `dtype`."""
        return self.attention.new_state(batch_size, num_tokens, dtype, self.qkv.weight.device)

    def state_bytes(self, batch_size: int, num_tokens: int, dtype: torch.dtype) -> int:
        """Memory of the state that holds `num_tokens` tokens: 2 B T D numbers of `dtype`, or the low-rank constant."""
        return self.attention.state_bytes(batch_size, num_tokens, dtype)


class KeysValues(NamedTuple):
    """What a map is to those that look at it, each [B, A, T, d]; the keys are turned to their positions."""

    keys: Tensor
    values: Tensor


class ScaleCrossAttention(nn.Module):
    """Queries of one map, keys and values of another with the same scales and tokens; each scale for itself.

    x [B, T, D], context [B, T, D'] or its `keys_values` -> [B, T, D]. Projections have no bias, the output has one.
    """

    def __init__(self, hidden_size: int, num_heads: int, context_size: int, lowrank: LowRank | None = None):
        super().__init__()
        self.attention = _make_attention(hidden_size, num_heads, lowrank, causal=False)
        self.num_heads = num_heads
        self.q = nn.Linear(hidden_size, hidden_size, bias=False)
        self.kv = nn.Linear(context_size, 2 * hidden_size, bias=False)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, context: Tensor | KeysValues, rotation: Rotation, lengths: Sequence[int]) -> Tensor:
        q = _split_heads(self.q(x), 1, self.num_heads).squeeze(0)
        k, v = self.keys_values(context, rotation) if isinstance(context, Tensor) else context
        out, _ = self.attention(apply_rotary(q, rotation), k, v, lengths)
        return self.proj(out.transpose(1, 2).flatten(-2))

    def keys_values(self, context: Tensor, rotation: Rotation) -> KeysValues:
        """Those of context [B, T, D'], to be used in several calls."""
        keys, values = _split_heads(self.kv(context), 2, self.num_heads).unbind(0)
        return KeysValues(apply_rotary(keys, rotation), values)
