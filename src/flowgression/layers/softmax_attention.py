"""Softmax attention over maps of several scales as a module, and what attentions share that keep a key-value cache.

B: images, A: heads, d: width of a head, T: tokens of the scales at hand, lengths: tokens of each scale at hand, coarse
to fine (their sum is T).
"""

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowgression.ops.softmax import KeyValueCache, block_softmax


class CachingKeys:
    """What attentions share that remember keys and values; num_heads: A, head_size: d."""

    num_heads: int
    head_size: int

    def new_state(self, batch_size: int, num_tokens: int, dtype: torch.dtype, device: torch.device) -> KeyValueCache:
        """An empty cache, allocated once for `num_tokens` tokens."""
        shape = (batch_size, self.num_heads, num_tokens, self.head_size)
        return KeyValueCache.empty(shape, dtype, device)

    def state_bytes(self, batch_size: int, num_tokens: int, dtype: torch.dtype) -> int:
        """Memory of that cache: 2 B T A d numbers."""
        return 2 * batch_size * num_tokens * self.num_heads * self.head_size * dtype.itemsize


class SoftmaxAttention(CachingKeys, nn.Module):
    """`block_softmax` as a module without parameters, with the same interface as `LowRankAttention`.

    num_heads: A; head_size: d; causal, dropout: see `block_softmax`.
    """

    def __init__(self, num_heads: int, head_size: int, *, causal: bool, dropout: float = 0.0):
        super().__init__()
        self.num_heads, self.head_size = num_heads, head_size
        self.causal = causal
        self.dropout = dropout

    def logit_factors(self, q: Tensor, k: Tensor) -> tuple[Tensor, Tensor]:
        """q, k [B, A, T, d] -> tensors whose products are the logits: q / sqrt(d) and k. Nothing bounds them."""
        return q / q.shape[-1] ** 0.5, k

    def values(self, v: Tensor) -> Tensor:
        """v itself, which is what is averaged."""
        return v

    def forward(
        self, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int], cache: KeyValueCache | None = None
    ) -> tuple[Tensor, KeyValueCache | None]:
        """q, k, v [B, A, T, d] -> [B, A, T, d] and the extended cache; with a cache also earlier scales are seen."""
        if cache is not None:
            cache = cache.extend(k, v)
            k, v = (t.to(q.dtype) for t in cache.filled())
        dropout = self.dropout if self.training else 0.0
        return block_softmax(q, k, v, lengths, causal=self.causal, dropout=dropout), cache
