"""Polynomial attention in its slow, obvious form: the polynomial of the dense logits. Letters as in types.py."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgression.ops.lowrank.minimax import horner, minimax_exp
from flowgression.ops.lowrank.types import AttentionResult, KeyValueCache, check_inputs, logit_scale


def naive_polynomial_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    *,
    degree: int,
    bound: float,
    scale: float | None = None,
    block_lengths: Sequence[int] | None = None,
    state: KeyValueCache | None = None,
) -> AttentionResult[KeyValueCache]:
    """P(scale q k^T) v with rows divided by their sums; P is `minimax_exp(degree, bound)`.

    Arguments, result and errors are those of `softmax_attention` and `minimax_exp`. Time and memory grow with M N.
    The computation stays in the dtype of the inputs.
    """
    check_inputs(q, k, v, block_lengths)
    cache = KeyValueCache(k, v) if state is None else state.extend(k, v)
    logits = logit_scale(scale, q) * q @ cache.keys.transpose(-1, -2)
    kernel = horner(minimax_exp(degree, bound).coefficients, logits)
    if block_lengths is not None:
        # Made on the device: lengths as a tensor would be copied there, and a copy waits.
        block = torch.cat([torch.full((length,), i, device=q.device) for i, length in enumerate(block_lengths)])
        of_keys = torch.nn.functional.pad(block, (cache.keys.shape[-2] - k.shape[-2], 0), value=-1)
        kernel = kernel * (of_keys <= block[:, None])
    return AttentionResult(kernel @ cache.values / kernel.sum(-1, keepdim=True), cache)
