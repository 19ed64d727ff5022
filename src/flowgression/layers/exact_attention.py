"""Exact softmax attention over maps of several scales, and its key-value cache.

B: images, A: heads, d: width of a head, D = A * d, T: tokens of the scales at hand, P: tokens of earlier scales in the
cache, lengths: tokens of each scale at hand, coarse to fine (their sum is T).
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import torch
from torch import Tensor, nn
from torch.nn.functional import scaled_dot_product_attention

from flowgression.errors import InputError


def scale_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    lengths: Sequence[int],
    *,
    causal: bool,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q k^T) v with a mask made of whole scales, which is never materialised.

    Scales are few, so the mask is a loop: each scale attends to a slice of the keys, and no pair that the mask would
    forbid is computed. The kernels keep the softmax in float32 also for half-precision inputs.

    Args:
        q: [B, A, T, d].
        k, v: [B, A, P + T, d]; the first P tokens belong to earlier, coarser scales.
        lengths: tokens per scale of q.
        causal: True: a token sees its own and all coarser scales (FlowAR, arXiv 2412.15205, section 3.2);
            False: only its own scale.
        dropout: probability with which an attention weight is dropped.
        scale: factor on the logits; None: 1 / sqrt(d).

    Returns:
        [B, A, T, d].
    """
    past = k.shape[2] - q.shape[2]
    outputs, start = [], 0
    for length in lengths:
        stop = start + length
        seen = slice(0 if causal else past + start, past + stop)
        outputs.append(
            scaled_dot_product_attention(
                q[:, :, start:stop], k[:, :, seen], v[:, :, seen], dropout_p=dropout, scale=scale
            )
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


class CachingKeys:
    """What attentions share that remember keys and values; num_heads: A, head_size: d."""

    num_heads: int
    head_size: int

    def new_state(self, batch_size: int, num_tokens: int, dtype: torch.dtype, device: torch.device) -> KeyValueCache:
        """An empty cache, allocated once for `num_tokens` tokens."""
        shape = (batch_size, self.num_heads, num_tokens, self.head_size)
        keys, values = (torch.empty(shape, dtype=dtype, device=device) for _ in range(2))
        return KeyValueCache(keys, values)

    def state_bytes(self, batch_size: int, num_tokens: int, dtype: torch.dtype) -> int:
        """Memory of that cache: 2 B T A d numbers."""
        return 2 * batch_size * num_tokens * self.num_heads * self.head_size * dtype.itemsize


class SoftmaxAttention(CachingKeys, nn.Module):
    """`scale_attention` as a module without parameters, with the same interface as `LowRankAttention`.

    num_heads: A; head_size: d; causal, dropout: see `scale_attention`.
    """

    shift_invariant = True  # adding one vector to all keys changes no softmax

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
        return scale_attention(q, k, v, lengths, causal=self.causal, dropout=dropout), cache
