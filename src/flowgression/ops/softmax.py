"""Softmax attention over maps of several scales, block by block, and the cache of keys and values that it grows.

Letters: ... leading dimensions (batch, heads), M queries, N keys, P keys of earlier calls, d head width, e value width.
A block is what is seen as a whole: the tokens of one scale.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from flowgression.errors import InputError


def block_softmax(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    block_lengths: Sequence[int],
    *,
    causal: bool,
    dropout: float = 0.0,
    scale: float | None = None,
) -> Tensor:
    """softmax(scale q k^T) v with a mask made of whole blocks, which is never materialised.

    Blocks are few, so the mask is a loop: each block attends to a slice of the keys, and no pair that the mask would
    forbid is computed. The kernels keep the softmax in float32 also for half-precision inputs.

    Args:
        q: [..., M, d].
        k: [..., P + M, d], v: [..., P + M, e]; the first P tokens belong to earlier blocks. With a single block any
            number of keys.
        block_lengths: tokens of each block of q, in order, adding up to M.
        causal: True: a token sees its own and all earlier blocks (FlowAR, arXiv 2412.15205, section 3.2);
            False: only its own block.
        dropout: probability with which an attention weight is dropped.
        scale: factor on the logits; None: 1 / sqrt(d).

    Returns:
        [..., M, e].
    """
    earlier = k.shape[-2] - q.shape[-2]
    outputs, start = [], 0
    for length in block_lengths:
        stop = start + length
        seen = slice(0 if causal else earlier + start, earlier + stop)
        outputs.append(_attend(q[..., start:stop, :], k[..., seen, :], v[..., seen, :], dropout, scale))
        start = stop
    return outputs[0] if len(outputs) == 1 else torch.cat(outputs, dim=-2)


def _attend(q: Tensor, k: Tensor, v: Tensor, dropout: float, scale: float | None) -> Tensor:
    if q.ndim == 4:
        return scaled_dot_product_attention(q, k, v, dropout_p=dropout, scale=scale)
    # Torch takes its fused kernel for four dimensions only, and else builds the matrix of logits.
    flat_q, flat_k, flat_v = (x.reshape(1, -1, *x.shape[-2:]) for x in (q, k, v))
    output = scaled_dot_product_attention(flat_q, flat_k, flat_v, dropout_p=dropout, scale=scale)
    return output.reshape(*q.shape[:-1], v.shape[-1])


@dataclass(frozen=True)
class KeyValueCache:
    """Keys and values of the blocks seen so far: what exact attention remembers.

    It is a value, and growing gives a new one, in one of two ways. `extend` writes behind `length` in memory that was
    allocated once (`empty`): an older value stays true, but two continuations of the same value overwrite each other.
    `append` copies into new memory: it has no limit and is differentiable.

    keys: [..., capacity, d]; values: [..., capacity, e]; length: number of tokens that are filled.
    """

    keys: Tensor
    values: Tensor
    length: int

    @classmethod
    def empty(cls, shape: Sequence[int], dtype: torch.dtype, device: torch.device | None = None) -> "KeyValueCache":
        """Room for keys and values of one shape [..., capacity, d]."""
        keys, values = (torch.empty(tuple(shape), dtype=dtype, device=device) for _ in range(2))
        return cls(keys, values, 0)

    @classmethod
    def full(cls, keys: Tensor, values: Tensor) -> "KeyValueCache":
        """Keys [..., N, d] and values [..., N, e] as they are, without a copy and without room for more."""
        return cls(keys, values, keys.shape[-2])

    def extend(self, keys: Tensor, values: Tensor) -> "KeyValueCache":
        """Write keys [..., M, d] and values [..., M, e] behind those that are filled, in the precision of the cache.

        Raises:
            InputError: another batch size than the cache was made for, or more tokens than there is room for.
        """
        if keys.shape[0] != self.keys.shape[0]:
            raise InputError(
                f"the key-value cache was made for a batch of {self.keys.shape[0]} but got {keys.shape[0]} images; "
                "make a cache of that batch size (with guidance: of both halves)."
            )
        stop = self.length + keys.shape[-2]
        if stop > self.keys.shape[-2]:
            raise InputError(
                f"the key-value cache has room for {self.keys.shape[-2]} tokens, not for {stop}; make a new cache."
            )
        self.keys[..., self.length : stop, :] = keys
        self.values[..., self.length : stop, :] = values
        return KeyValueCache(self.keys, self.values, stop)

    def append(self, keys: Tensor, values: Tensor) -> "KeyValueCache":
        """A full cache of these tokens and of keys [..., M, d] and values [..., M, e] behind them, in new memory."""
        seen_keys, seen_values = self.filled()
        return KeyValueCache.full(torch.cat([seen_keys, keys], -2), torch.cat([seen_values, values], -2))

    def filled(self) -> tuple[Tensor, Tensor]:
        """The keys [..., length, d] and values [..., length, e] so far, without a copy."""
        return self.keys[..., : self.length, :], self.values[..., : self.length, :]

    @property
    def nbytes(self) -> int:
        """Memory of the whole cache in bytes, filled or not."""
        return self.keys.nbytes + self.values.nbytes
