"""Hybrid linear attention image by image with the state carried along: the backend for sampling.

B: sequences, S: images of a sequence, N: tokens of an image, A: heads, d: head width.
"""

import torch
from torch import Tensor

from flowgression.ops.hybrid_linear.chunk import hybrid_attention_chunk
from flowgression.ops.hybrid_linear.kinds import State, check_inputs


def hybrid_attention_recurrent(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    gate: Tensor,
    state: State = None,
    *,
    context: str = "hybrid",
    return_state: bool = True,
) -> tuple[Tensor, State]:
    """The same as `chunk.hybrid_attention_chunk`, one image after another.

    For `hybrid` and `linear`, time and memory of an image do not depend on how many came before it.
    """
    check_inputs(q, k, v, gate, state, context)
    outputs = []
    for i in range(q.shape[1]):
        one = slice(i, i + 1)
        out, state = hybrid_attention_chunk(q[:, one], k[:, one], v[:, one], gate[:, one], state, context=context)
        outputs.append(out)
    return torch.cat(outputs, dim=1), state if return_state else None
