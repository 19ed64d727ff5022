"""The definition of hybrid linear attention, one image and one token at a time. Slow; everything is tested against it.

B: sequences, S: images of a sequence, N: tokens of an image, A: heads, d: head width.
"""

import torch
from torch import Tensor

from flowgression.ops.hybrid_linear.kinds import State, check_inputs


def hybrid_attention_naive(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    state: State = None,
    *,
    context: str = "hybrid",
    return_state: bool = True,
) -> tuple[Tensor, State]:
    """See `chunk.hybrid_attention_chunk` for arguments and results; computed in the dtype of the inputs."""
    check_inputs(q, k, v, gate, state, context)
    outputs = []
    for i in range(q.shape[1]):
        q_i, k_i, v_i, a_i = (x[:, i].transpose(1, 2) for x in (q, k, v, gate))  # [B, A, N, d], [B, A, N]
        out, state = _IMAGE[context](q_i, k_i, v_i, a_i, state)
        outputs.append(out.transpose(1, 2))
    return torch.stack(outputs, dim=1), state if return_state else None


def _softmax_attention(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    return torch.softmax(q @ k.transpose(-1, -2), dim=-1) @ v


def _hybrid(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State) -> tuple[Tensor, State]:
    memory = state if isinstance(state, Tensor) else q.new_zeros(*q.shape[:2], q.shape[-1], q.shape[-1])
    cross = []
    for n in range(q.shape[2]):
        decay = a[:, :, : n + 1].sum(-1).exp()[..., None]
        cross.append(torch.einsum("bad,bade->bae", q[:, :, n] * decay, memory))
    inner = _softmax_attention(q, k, v)
    memory = a.mean(-1).exp()[..., None, None] * memory
    for n in range(q.shape[2]):
        memory = memory + k[:, :, n, :, None] * v[:, :, n, None, :]
    return inner + torch.stack(cross, dim=2), memory


def _linear(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State) -> tuple[Tensor, State]:
    memory = state if isinstance(state, Tensor) else q.new_zeros(*q.shape[:2], q.shape[-1], q.shape[-1])
    outputs = []
    for n in range(q.shape[2]):
        memory = a[:, :, n].exp()[..., None, None] * memory + k[:, :, n, :, None] * v[:, :, n, None, :]
        outputs.append(torch.einsum("bad,bade->bae", q[:, :, n], memory))
    return torch.stack(outputs, dim=2), memory


def _full(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State) -> tuple[Tensor, State]:
    if isinstance(state, tuple):
        k, v = torch.cat([state[0], k], dim=2), torch.cat([state[1], v], dim=2)
    return _softmax_attention(q, k, v), (k, v)


def _none(q: Tensor, k: Tensor, v: Tensor, a: Tensor, state: State) -> tuple[Tensor, State]:
    return _softmax_attention(q, k, v), None


_IMAGE = {"hybrid": _hybrid, "linear": _linear, "full": _full, "none": _none}
