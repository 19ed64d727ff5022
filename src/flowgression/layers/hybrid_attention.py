"""The attention layer of ARFlow.

B: sequences, S: images of a sequence, N: tokens of an image, D: width, A: heads, d = D / A.
"""

import torch
from torch import Tensor, nn
from torch.nn.functional import logsigmoid

from flowgression.errors import InputError
from flowgression.layers.gated_norm import gated_norm
from flowgression.layers.norms import rms_norm
from flowgression.ops.hybrid_linear import State, hybrid_attention

GATE_TEMPERATURE = 16.0  # keeps the decay of one image near 1, as in gated linear attention (arXiv 2312.06635)


class HybridAttention(nn.Module):
    """Gated hybrid linear attention (ARFlow, arXiv 2501.16085, section 3), with normalised queries, keys and values.

    Args:
        decay: False leaves the gates out: log-decay 0, so that the state of earlier images never fades.

    Raises:
        InputError: `hidden_size` is not divisible by `num_heads`.
    """

    def __init__(self, hidden_size: int, num_heads: int, context: str = "hybrid", decay: bool = True):
        super().__init__()
        if num_heads < 1 or hidden_size % num_heads:
            raise InputError(f"hidden_size {hidden_size} is not divisible by num_heads {num_heads}.")
        self.num_heads = num_heads
        self.context = context
        self.read_size = num_heads if decay else 0
        self.q_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.k_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.v_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.g_proj = nn.Linear(hidden_size, hidden_size, bias=False)
        self.gt_proj = nn.Linear(hidden_size, num_heads, bias=False) if decay else None
        self.out_proj = nn.Linear(hidden_size, hidden_size, bias=False)

    def read(self, c: Tensor) -> Tensor:
        """What the condition c [B, S, 1, D] adds to the gates, [B, S, 1, A]; nothing, [B, S, 1, 0], without decay."""
        return c[..., :0] if self.gt_proj is None else self.gt_proj(c)

    def log_decay(self, x: Tensor, read: Tensor) -> Tensor:
        """What the state of earlier images loses at x [B, S, N, D], float32 [B, S, N, A] <= 0; read: see `read`."""
        if self.gt_proj is None:
            return x.new_zeros(*x.shape[:-1], self.num_heads, dtype=torch.float32)
        # Of x + c, as a sum: c has one row per image, and the sum of both would be written for every token.
        return logsigmoid(self.gt_proj(x).float() + read.float()) / GATE_TEMPERATURE

    def forward(self, x: Tensor, read: Tensor, state: State = None, return_state: bool = True) -> tuple[Tensor, State]:
        """x [B, S, N, D], what `read` gave and the state of earlier images -> [B, S, N, D], new state."""
        heads = (self.num_heads, -1)
        # RMS over the whole width and before the split into heads, as in the released model.
        q, k, v = (rms_norm(project(x)) for project in (self.q_proj, self.k_proj, self.v_proj))
        q, k, v = q.unflatten(-1, heads), k.unflatten(-1, heads), v.unflatten(-1, heads)
        gate = self.log_decay(x, read)
        k = k * k.shape[-1] ** -0.5
        out, state = hybrid_attention(q, k, v, gate, state, context=self.context, return_state=return_state)
        return self.out_proj(gated_norm(out, self.g_proj(x).unflatten(-1, heads)).flatten(-2)), state
