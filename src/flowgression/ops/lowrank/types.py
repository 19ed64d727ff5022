"""What every attention of this folder takes and returns, so that a model chooses between them by configuration.

Letters: ... leading dimensions (batch, heads), M queries, N keys, d head width, e value width.
"""

from collections.abc import Sequence
from typing import Generic, NamedTuple, TypeVar

import torch
from torch import Tensor

from flowgression.errors import InputError

State = TypeVar("State")


class AttentionResult(NamedTuple, Generic[State]):
    """`output` [..., M, e] in the dtype of the values, and the `state` to hand to the call for the next scale."""

    output: Tensor
    state: State


def check_inputs(q: Tensor, k: Tensor, v: Tensor, block_lengths: Sequence[int] | None) -> None:
    """Raise InputError unless q [..., M, d], k [..., N, d], v [..., N, e] and block_lengths fit together."""
    shapes = f"q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)}"
    if min(q.ndim, k.ndim, v.ndim) < 2 or not q.shape[:-2] == k.shape[:-2] == v.shape[:-2]:
        raise InputError(f"attention needs q, k and v with the same leading dimensions, got {shapes}.")
    if q.shape[-1] != k.shape[-1] or k.shape[-2] != v.shape[-2]:
        raise InputError(f"attention needs q [..., M, d], k [..., N, d] and v [..., N, e], got {shapes}.")
    if not all(x.is_floating_point() for x in (q, k, v)):
        raise InputError(f"attention needs floating-point tensors, got {q.dtype}, {k.dtype} and {v.dtype}.")
    if 0 in q.shape[-2:] or 0 in v.shape[-2:]:
        raise InputError(f"attention needs at least one token and one channel, got {shapes}.")
    if block_lengths is None:
        return
    lengths = list(block_lengths)
    if q.shape[-2] != k.shape[-2] or sum(lengths) != k.shape[-2] or min(lengths, default=0) < 1:
        raise InputError(
            f"block_lengths={lengths} must be positive and add up to the number of tokens, "
            f"the same for queries ({q.shape[-2]}) and keys ({k.shape[-2]})."
        )


def computing_dtype(*tensors: Tensor) -> torch.dtype:
    """In which polynomial attention of these queries, keys and values is computed: float64 if one of them is float64,
    else float32. No input is rounded on its way there.
    """
    return torch.float64 if any(x.dtype == torch.float64 for x in tensors) else torch.float32


def logit_scale(scale: float | None, q: Tensor) -> float:
    """The factor on q k^T; 1/sqrt(d) unless given, as in torch's scaled_dot_product_attention."""
    return q.shape[-1] ** -0.5 if scale is None else scale
