"""Softmax attention, exact: the reference that the polynomial stands in for. Letters as in types.py."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgression.ops.lowrank.types import AttentionResult, check_inputs
from flowgression.ops.softmax import KeyValueCache, block_softmax


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
        q: queries [..., M, d]; float dtypes may be mixed: the widest of q, k and v is computed in.
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
    cache = KeyValueCache.full(k, v) if state is None else state.append(k, v)
    # Without blocks all queries are one, which sees all keys.
    blocks = [q.shape[-2]] if block_lengths is None else block_lengths
    keys, values = cache.filled()
    dtype = torch.promote_types(torch.promote_types(q.dtype, keys.dtype), values.dtype)
    output = block_softmax(q.to(dtype), keys.to(dtype), values.to(dtype), blocks, causal=True, scale=scale)
    return AttentionResult(output.to(v.dtype), cache)
