"""The transformer block of FlowAR: RMS norm, attention and gated MLP, all modulated by a condition.

B: images, T: tokens, D: width.
"""

from collections.abc import Sequence
from typing import Any

from torch import Tensor, nn

from flowgression.layers.gated_mlp import GatedMlp
from flowgression.layers.modulation import AdaLN, modulate
from flowgression.layers.norms import RMSNorm
from flowgression.layers.rotary import Rotation
from flowgression.layers.scale_attention import AttentionState, ScaleAttention


class ModulatedBlock(nn.Module):
    """x + gamma1 Attn(norm(x)(1 + scale1) + shift1), then the MLP alike with 2 (FlowAR, arXiv 2412.15205).

    With a condition per image this is the block of the autoregressive transformer; with a condition per token it is
    the Spatial-adaLN block of the flow head.
    """

    def __init__(self, attention: ScaleAttention, hidden_size: int, dropout: float = 0.0):
        super().__init__()
        self.norm1 = RMSNorm(hidden_size, weight=False)
        self.attn = attention
        self.norm2 = RMSNorm(hidden_size, weight=False)
        self.mlp = GatedMlp(hidden_size, dropout)
        self.modulation = AdaLN(hidden_size, 6)

    def forward(
        self,
        x: Tensor,
        condition: Tensor,
        rotation: Rotation,
        lengths: Sequence[int],
        state: Any = None,
    ) -> tuple[Tensor, AttentionState | None]:
        """x [B, T, D], condition [B, 1 or T, D] -> x of the same shape and the extended state."""
        gamma1, gamma2, scale1, scale2, shift1, shift2 = self.modulation(condition)
        attended, state = self.attn(modulate(self.norm1(x), shift1, scale1), rotation, lengths, state)
        x = x + gamma1 * attended
        return x + gamma2 * self.mlp(modulate(self.norm2(x), shift2, scale2)), state
