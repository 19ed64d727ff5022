"""What ARFlow and SiT share: a diffusion transformer (DiT, arXiv 2212.09748) around an attention of choice.

B: images (or sequences), S: images of a sequence, N: tokens, D: width. `...` is [B] in SiT and [B, S] in ARFlow.
"""

from typing import Any

from torch import Tensor, nn

from flowgression.layers.mlp import Mlp
from flowgression.layers.modulation import AdaLN, modulate


class AdaLNZeroBlock(nn.Module):
    """adaLN-Zero: attention and MLP, each shifted, scaled and gated by the condition.

    The attention is called as `attention(x, c, state, return_state) -> (output, state)`.
    """

    def __init__(self, hidden_size: int, attention: nn.Module, mlp_ratio: float):
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn = attention
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = AdaLN(hidden_size, 6)

    def forward(self, x: Tensor, c: Tensor, state: Any = None, return_state: bool = True) -> tuple[Tensor, Any]:
        """x [..., N, D], c [..., 1, D] and the attention's state -> [..., N, D], new state."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation(c)
        attended, state = self.attn(modulate(self.norm1(x), shift1, scale1), c, state, return_state)
        x = x + gate1 * attended
        return x + gate2 * self.mlp(modulate(self.norm2(x), shift2, scale2)), state
