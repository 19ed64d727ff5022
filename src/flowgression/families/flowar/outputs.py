"""What FlowAR's transformer gives and keeps: its output, its memory between scales, and class labels as it reads them.

B: images, C: channels, P: patch size, scales with sides s_k, D: width of the transformer.
"""

from dataclasses import dataclass
from typing import NamedTuple

from diffusers.utils import BaseOutput
from torch import Tensor

from flowgression.layers.modulated_block import Modulations
from flowgression.layers.scale_attention import AttentionState


@dataclass
class FlowAROutput(BaseOutput):
    """What the transformer gives in one teacher-forced pass; one entry per scale, coarse to fine.

    semantics: [B, s_k^2, D], the condition of the flow head.
    targets: [B, s_k^2, P * P * C], the true map as tokens: the data that the flow head learns to draw.
    """

    semantics: list[Tensor]
    targets: list[Tensor]


@dataclass(frozen=True)
class FlowARCache:
    """The transformer's memory between scales, a value owned by the caller.

    layers: one key-value cache per block, or with low-rank attention one state of constant size.
    scale: index of the scale that comes next.
    """

    layers: tuple[AttentionState, ...]
    scale: int = 0

    @property
    def nbytes(self) -> int:
        """Memory in bytes; equal to `FlowAR.cache_bytes` from the first scale on, however many are filled."""
        return sum(layer.nbytes for layer in self.layers)


class ReadLabels(NamedTuple):
    """What the transformer makes of class labels: condition [B, 1, D], and what each block makes of it."""

    condition: Tensor
    blocks: tuple[Modulations, ...]
