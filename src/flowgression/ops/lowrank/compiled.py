"""Low-rank attention as one operator of torch's library: what torch.compile and torch.export put into their graphs.

The loops over chunks stay outside of the graph, and so do the tables, which each device keeps: a graph holds no tensor
of another device. What is computed is a backend of `attend`, chosen when the graph runs, so the certificate holds in
compiled models too.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.ops.lowrank.backends import LOWRANK

_INPUTS = "Tensor q, Tensor k, Tensor v"
_POLYNOMIAL = "int degree, float bound, int[] lengths, str? backend"


@torch.library.custom_op(
    "flowgression::polynomial_attention",
    mutates_args=(),
    schema=f"({_INPUTS}, Tensor initial, {_POLYNOMIAL}) -> (Tensor, Tensor, Tensor, Tensor)",
)
def polynomial_attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    initial: Tensor,
    degree: int,
    bound: float,
    lengths: Sequence[int],
    backend: str | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `torch_attention.attend`."""
    passes = LOWRANK.choose(backend, q, k, v, initial, degree=degree)
    return passes.forward(q, k, v, initial, degree, bound, lengths)


@polynomial_attention.register_fake
def _(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    initial: Tensor,
    degree: int,
    bound: float,
    lengths: Sequence[int],
    backend: str | None,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    output = q.new_empty(*q.shape[:2], v.shape[2])
    states = initial.new_empty(max(1, len(lengths)), *initial.shape)
    return output, initial.new_empty(initial.shape), states, q.new_empty(*q.shape[:2], 1)


@torch.library.custom_op(
    "flowgression::polynomial_attention_backward",
    mutates_args=(),
    schema=(
        f"(Tensor? grad_output, Tensor? grad_final, {_INPUTS}, Tensor states, Tensor output, Tensor normaliser, "
        f"{_POLYNOMIAL}) -> (Tensor, Tensor, Tensor, Tensor)"
    ),
)
def polynomial_attention_backward(*args: Any) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """See `torch_attention.attend_backward`."""
    *attention, backend = args
    q, k, v, states, _, _, degree, *_ = attention[2:]
    return LOWRANK.choose(backend, q, k, v, states, degree=degree).backward(*attention)


@polynomial_attention_backward.register_fake
def _(
    grad_output: Tensor | None, grad_final: Tensor | None, q: Tensor, k: Tensor, v: Tensor, states: Tensor, *_: Any
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape), states.new_empty(states.shape[1:])


def _keep(ctx: Any, inputs: tuple[Any, ...], output: tuple[Tensor, ...]) -> None:
    q, k, v, _, *ctx.polynomial = inputs
    result, _, states, normaliser = output
    ctx.save_for_backward(q, k, v, states, result, normaliser)
    ctx.set_materialize_grads(False)


def _differentiate(ctx: Any, grad_output: Tensor | None, grad_final: Tensor | None, *_: Any) -> tuple[Any, ...]:
    gradients = polynomial_attention_backward(grad_output, grad_final, *ctx.saved_tensors, *ctx.polynomial)
    return *gradients, None, None, None, None


polynomial_attention.register_autograd(_differentiate, setup_context=_keep)
