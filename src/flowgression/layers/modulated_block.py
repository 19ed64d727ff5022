"""The transformer block of FlowAR: RMS norm, attention and gated MLP, all modulated by a condition.

B: images, T: tokens, D: width.
"""

from collections.abc import Sequence
from typing import Any, NamedTuple

from torch import Tensor, nn

from flowgression.layers.gated_mlp import GatedMlp
from flowgression.layers.modulation import AdaLN, gated, match_rows, modulate
from flowgression.layers.norms import RMSNorm
from flowgression.layers.rotary import Rotation
from flowgression.layers.scale_attention import AttentionState, ScaleAttention


class Modulations(NamedTuple):
    """What a block makes of the condition, each [B, 1 or T, D]; a factor is 1 + scale."""

    gamma1: Tensor
    gamma2: Tensor
    factor1: Tensor
    factor2: Tensor
    shift1: Tensor
    shift2: Tensor


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

    def read(self, activated: Tensor) -> Modulations:
        """Of SiLU(condition) [B, 1 or T, D], which all blocks share."""
        gamma1, gamma2, scale1, scale2, shift1, shift2 = self.modulation.of_activated(activated)
        return Modulations(gamma1, gamma2, 1 + scale1, 1 + scale2, shift1, shift2)

    def forward(
        self,
        x: Tensor,
        condition: Tensor | Modulations,
        rotation: Rotation,
        lengths: Sequence[int],
        state: Any = None,
    ) -> tuple[Tensor, AttentionState | None]:
        """x [B, T, D], SiLU(condition) [B, 1 or T, D] or what `read` made of it -> [B, T, D] and the extended state.

        Of more conditions than x has rows, a multiple, each reads the same x.
        """
        # Read inside of the block where gradients are wanted: checkpointing makes it again.
        read = condition if isinstance(condition, Modulations) else self.read(condition)
        x = match_rows(x, read.shift1)
        attended, state = self.attn(modulate(self.norm1(x), read.shift1, read.factor1), rotation, lengths, state)
        x = gated(x, read.gamma1, attended)
        return gated(x, read.gamma2, self.mlp(modulate(self.norm2(x), read.shift2, read.factor2))), state
