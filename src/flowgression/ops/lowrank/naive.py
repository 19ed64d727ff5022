"""Polynomial attention in its slow, obvious form: the polynomial of the dense logits. Letters as in types.py."""

from collections.abc import Sequence

import torch
from torch import Tensor

from flowgression.ops.lowrank.minimax import horner, minimax_exp
from flowgression.ops.lowrank.summation import full_precision, wide_matmul, with_ones
from flowgression.ops.lowrank.types import AttentionResult, check_inputs, computing_dtype, logit_scale
from flowgression.ops.softmax import KeyValueCache


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
    Logits and their polynomial are computed in float32, in float64 if an input is float64.
    """
    check_inputs(q, k, v, block_lengths)
    cache = KeyValueCache.full(k, v) if state is None else state.append(k, v)
    keys, values = cache.filled()
    seen = None if block_lengths is None else visible_keys(block_lengths, keys.shape[-2] - k.shape[-2], q.device)
    dtype = computing_dtype(q, keys, values)
    q, keys, values = q.to(dtype), keys.to(dtype), values.to(dtype)
    with full_precision(q.device):
        kernel = horner(minimax_exp(degree, bound).coefficients, logit_scale(scale, q) * q @ keys.mT)
        sums = wide_matmul(kernel if seen is None else kernel * seen, with_ones(values))
    return AttentionResult((sums[..., :-1] / sums[..., -1:]).to(v.dtype), cache)


def visible_keys(block_lengths: Sequence[int], earlier: int, device: torch.device) -> Tensor:
    """Which keys a query sees, [M, earlier + N]: those of its own block and of all before it."""
    lengths = list(block_lengths)
    # Made on the device: lengths as a tensor would be copied there, and a copy waits.
    block = torch.cat([torch.full((length,), i, device=device) for i, length in enumerate(lengths)])
    return torch.nn.functional.pad(block, (earlier, 0), value=-1) <= block[:, None]
