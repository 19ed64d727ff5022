"""Softmax attention, exact: the reference that the polynomial stands in for. Letters as in types.py."""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.nn.functional import scaled_dot_product_attention

from flowgression.ops.lowrank.types import AttentionResult, KeyValueCache, check_inputs


def softmax_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    scale: float | None = None,
    block_lengths: Sequence[int] | None = None,
    state: KeyValueCache | None = None,
) -> AttentionResult[KeyValueCache]:
    """softmax(scale q k^T) v over the tokens at hand and those of `state`.

    Args:
        q: queries [..., M, d], any float dtype.
        k: keys [..., N, d].
        v: values [..., N, e].
        scale: factor on the logits; 1/sqrt(d) by default.
        block_lengths: tokens of each scale, in order, adding up to M = N. A query then sees its own block and all
            earlier ones (attention is bidirectional inside a block). None: every query sees every key.
        state: the result of the call for the scales before these tokens.

    Returns:
        output [..., M, e] in the dtype of v, and the key-value cache including these tokens.

    Raises:
        InputError: shapes or block lengths that do not fit together.
    """
    check_inputs(q, k, v, block_lengths)
    cache = KeyValueCache(k, v) if state is None else state.extend(k, v)
    earlier = cache.keys.shape[-2] - k.shape[-2]
    outputs, start = [], 0
    for length in block_lengths or [q.shape[-2]]:
        # One call per block instead of a mask: a query never touches the keys of a later scale.
        seen = cache.keys.shape[-2] if block_lengths is None else earlier + start + length
        queries = q[..., start : start + length, :]
        keys, values = cache.keys[..., :seen, :], cache.values[..., :seen, :]
        outputs.append(_attend(queries, keys, values, scale))
        start += length
    return AttentionResult(torch.cat(outputs, -2).to(v.dtype), cache)


def _attend(q: Tensor, k: Tensor, v: Tensor, scale: float | None) -> Tensor:
    # Torch takes its fused kernel for four dimensions only, and else builds the matrix of logits.
    flat_q, flat_k, flat_v = (x.reshape(1, -1, *x.shape[-2:]) for x in (q, k, v))
    return scaled_dot_product_attention(flat_q, flat_k, flat_v, scale=scale).reshape(*q.shape[:-1], v.shape[-1])
