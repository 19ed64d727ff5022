"""What ARFlow and SiT share: a diffusion transformer (DiT, arXiv 2212.09748) around an attention of choice.

B: images (or sequences), S: images of a sequence, N: tokens, D: width. `...` is [B] in SiT and [B, S] in ARFlow.
"""

from typing import Any, NamedTuple

from torch import Tensor, nn

from flowgression.layers.mlp import Mlp
from flowgression.layers.modulation import AdaLN, gated, modulate


class BlockCondition(NamedTuple):
    """What a block makes of the condition, each [..., 1, D]; `attention` is what its attention makes, [..., 1, any]."""

    shift1: Tensor
    factor1: Tensor
    gate1: Tensor
    shift2: Tensor
    factor2: Tensor
    gate2: Tensor
    attention: Tensor


class AdaLNZeroBlock(nn.Module):
    """adaLN-Zero: attention and MLP, each shifted, scaled and gated by the condition.

    The attention is called as `attention(x, attention.read(c), state, return_state) -> (output, state)`. In training
    both branches lose a share `dropout` of their output.
    """

    def __init__(self, hidden_size: int, attention: nn.Module, mlp_ratio: float, dropout: float = 0.0):
        super().__init__()
        self.norm1 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.attn: Any = attention
        self.norm2 = nn.LayerNorm(hidden_size, elementwise_affine=False, eps=1e-6)
        self.mlp = Mlp(hidden_size, int(hidden_size * mlp_ratio))
        self.adaLN_modulation = AdaLN(hidden_size, 6)
        self.dropout = nn.Dropout(dropout) if dropout else nn.Identity()

    def read(self, c: Tensor, activated: Tensor) -> BlockCondition:
        """Of a condition c [..., 1, D] and SiLU(c), which all blocks share."""
        shift1, scale1, gate1, shift2, scale2, gate2 = self.adaLN_modulation.of_activated(activated)
        return BlockCondition(shift1, 1 + scale1, gate1, shift2, 1 + scale2, gate2, self.attn.read(c))

    def forward(
        self, x: Tensor, condition: BlockCondition | tuple[Tensor, Tensor], state: Any = None, return_state: bool = True
    ) -> tuple[Tensor, Any]:
        """x [..., N, D], condition (or what `read` takes) and the attention's state -> [..., N, D], new state."""
        # Read inside of the block where gradients are wanted: checkpointing makes it again.
        read = condition if isinstance(condition, BlockCondition) else self.read(*condition)
        attended, state = self.attn(
            modulate(self.norm1(x), read.shift1, read.factor1), read.attention, state, return_state
        )
        x = gated(x, read.gate1, self.dropout(attended))
        branch = self.mlp(modulate(self.norm2(x), read.shift2, read.factor2))
        return gated(x, read.gate2, self.dropout(branch)), state
