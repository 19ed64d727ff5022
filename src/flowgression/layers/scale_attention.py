"""Attention over maps of several scales, and its key-value cache.

B: images, A: heads, d: width of a head, D = A * d, T: tokens of the scales at hand, P: tokens of earlier scales in the
cache, lengths: tokens of each scale at hand, coarse to fine (their sum is T).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from flowgression.errors import InputError
from flowgression.layers.rotary import Rotation, apply_rotary


def scale_attention(
    q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], *, causal: bool, dropout: float = 0.0
) -> Tensor:
    """softmax(q k^T / sqrt(d)) v with a mask made of whole scales, which is never materialised.

    Scales are few, so the mask is a loop: each scale attends to a slice of the keys, and no pair that the mask would
    forbid is computed. The kernels keep the softmax in float32 also for half-precision inputs.

    Args:
        q: [B, A, T, d].
        k, v: [B, A, P + T, d]; the first P tokens belong to earlier, coarser scales.
        lengths: tokens per scale of q.
        causal: True: a token sees its own and all coarser scales (FlowAR, arXiv 2412.15205, section 3.2);
            False: only its own scale.
        dropout: probability with which an attention weight is dropped.

    Returns:
        [B, A, T, d].
    """
    past = k.shape[2] - q.shape[2]
    outputs, start = [], 0
    for length in lengths:
        stop = start + length
        seen = slice(0 if causal else past + start, past + stop)
        outputs.append(
            scaled_dot_product_attention(q[:, :, start:stop], k[:, :, seen], v[:, :, seen], dropout_p=dropout)
        )
        start = stop
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=2)


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values of the scales seen so far, in memory allocated once for all scales.

    `extend` returns a new value and writes behind `length` in the shared memory: an older value stays true, but two
    continuations of the same value overwrite each other.

    keys, values: [B, A, capacity, d]; length: number of tokens that are filled.
    """

    keys: Tensor
    values: Tensor
    length: int = 0

    def extend(self, keys: Tensor, values: Tensor) -> "KeyValueCache":
        """Append keys and values [B, A, T, d].

        Raises:
            InputError: another batch size than the cache was made for, or more tokens than there is room for.
        """
        if keys.shape[0] != self.keys.shape[0]:
            raise InputError(
                f"the key-value cache was made for a batch of {self.keys.shape[0]} but got {keys.shape[0]} images; "
                "make a cache of that batch size (with guidance: of both halves)."
            )
        stop = self.length + keys.shape[2]
        if stop > self.keys.shape[2]:
            raise InputError(
                f"the key-value cache has room for {self.keys.shape[2]} tokens, not for {stop}; make a new cache."
            )
        self.keys[:, :, self.length : stop] = keys
        self.values[:, :, self.length : stop] = values
        return replace(self, length=stop)

    def filled(self) -> tuple[Tensor, Tensor]:
        """The keys and values so far, [B, A, length, d] each, without a copy."""
        return self.keys[:, :, : self.length], self.values[:, :, : self.length]

    @property
    def nbytes(self) -> int:
        """Memory of the whole cache in bytes, filled or not."""
        return self.keys.nbytes + self.values.nbytes


def _split_heads(x: Tensor, parts: int, num_heads: int) -> tuple[Tensor, ...]:
    """[B, T, parts * D] -> `parts` tensors [B, A, T, d]."""
    return x.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)


def check_heads(hidden_size: int, num_heads: int) -> None:
    """Raise InputError unless `num_heads` heads fit `hidden_size`."""
    if hidden_size % num_heads:
        raise InputError(f"a width of {hidden_size} cannot be split into {num_heads} heads: it must be a multiple.")


class ScaleAttention(nn.Module):
    """Multi-head self-attention over scales with rotary positions. [B, T, D] -> [B, T, D].

    Args:
        hidden_size: D; num_heads: A.
        causal: see `scale_attention`.
        qkv_bias: whether the projection to queries, keys and values has a bias.
        attention_dropout, dropout: of the attention weights and of the output.

    Raises:
        InputError: the heads do not fit the width.
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
    ):
        super().__init__()
        check_heads(hidden_size, num_heads)
        self.num_heads = num_heads
        self.causal = causal
        self.attention_dropout = attention_dropout
        self.qkv = nn.Linear(hidden_size, 3 * hidden_size, bias=qkv_bias)
        self.proj = nn.Linear(hidden_size, hidden_size)
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, x: Tensor, rotation: Rotation, lengths: Sequence[int], cache: KeyValueCache | None = None
    ) -> tuple[Tensor, KeyValueCache | None]:
        """x [B, T, D], its rotation [T, d] and lengths; with a cache also the earlier scales are seen."""
        q, k, v = _split_heads(self.qkv(x), 3, self.num_heads)
        q, k = apply_rotary(q, rotation), apply_rotary(k, rotation)
        if cache is not None:
            cache = cache.extend(k, v)
            k, v = (t.to(q.dtype) for t in cache.filled())
        dropout = self.attention_dropout if self.training else 0.0
        out = scale_attention(q, k, v, lengths, causal=self.causal, dropout=dropout)
        return self.dropout(self.proj(out.transpose(1, 2).flatten(-2))), cache


class ScaleCrossAttention(nn.Module):
    """Queries of one map, keys and values of another with the same scales and tokens; each scale for itself.

    x [B, T, D], context [B, T, D'] -> [B, T, D]. Projections have no bias, the output has one.
    """

    def __init__(self, hidden_size: int, num_heads: int, context_size: int):
        super().__init__()
        check_heads(hidden_size, num_heads)
        self.num_heads = num_heads
        self.q = nn.Linear(hidden_size, hidden_size, bias=False)
        self.kv = nn.Linear(context_size, 2 * hidden_size, bias=False)
        self.proj = nn.Linear(hidden_size, hidden_size)

    def forward(self, x: Tensor, context: Tensor, rotation: Rotation, lengths: Sequence[int]) -> Tensor:
        (q,) = _split_heads(self.q(x), 1, self.num_heads)
        k, v = _split_heads(self.kv(context), 2, self.num_heads)
        q, k = apply_rotary(q, rotation), apply_rotary(k, rotation)
        out = scale_attention(q, k, v, lengths, causal=False)
        return self.proj(out.transpose(1, 2).flatten(-2))
