"""The backends of low-rank attention on flat tensors: "torch", everywhere; "triton", on NVIDIA GPUs in float32.

Both sum in the same blocks, so the certificate holds for each.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from flowgression.ops import triton_support
from flowgression.ops.backends import Backend, Operation

_HIGHEST_DEGREE = 8  # a monomial's factors are written in eight bits each, in 64
_WIDEST = {"queries": 254, "values": 48}  # what eight bits can name; what the registers of a thread hold


class Passes(NamedTuple):
    """What `torch_attention.attend` and `torch_attention.attend_backward` compute, by the same arguments."""

    forward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]
    backward: Callable[..., tuple[Tensor, Tensor, Tensor, Tensor]]


def _torch() -> Passes:
    from flowgression.ops.lowrank.torch_attention import attend, attend_backward

    return Passes(attend, attend_backward)


def _triton() -> Passes:
    from flowgression.ops.lowrank.triton_attention import attend, attend_backward

    return Passes(attend, attend_backward)


def _triton_refuses(q: Tensor, k: Tensor, v: Tensor, initial: Tensor, *, degree: int) -> str | None:
    if degree > _HIGHEST_DEGREE:
        return f"it is made for degrees up to {_HIGHEST_DEGREE}, got {degree}"
    if q.shape[-1] > _WIDEST["queries"] or v.shape[-1] > _WIDEST["values"]:
        return f"it is made for head widths up to {_WIDEST}, got {q.shape[-1]} and {v.shape[-1]}"
    return triton_support.refuses(q, k, v, initial, dtypes=(torch.float32,))


LOWRANK: Operation[Passes] = Operation(
    "low-rank attention",
    {
        "torch": Backend(_torch),
        "triton": Backend(_triton, refuses=_triton_refuses, suits=triton_support.on_gpu),
    },
)
