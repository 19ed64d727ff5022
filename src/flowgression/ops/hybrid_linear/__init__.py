"""Hybrid linear attention: full attention inside an image, gated linear attention across images (ARFlow).

One operation, four implementations with one signature: `naive` (loops, the definition), `chunk` (all images at once,
for training), `recurrent` (image by image) and `triton` (the state in registers, on NVIDIA GPUs). They agree up to
floating-point error. `hybrid_attention` takes the one that suits.
"""

from flowgression.ops.hybrid_linear.backends import hybrid_attention
from flowgression.ops.hybrid_linear.chunk import hybrid_attention_chunk
from flowgression.ops.hybrid_linear.kinds import CONTEXTS, State
from flowgression.ops.hybrid_linear.naive import hybrid_attention_naive
from flowgression.ops.hybrid_linear.recurrent import hybrid_attention_recurrent

__all__ = [
    "CONTEXTS",
    "State",
    "hybrid_attention",
    "hybrid_attention_chunk",
    "hybrid_attention_naive",
    "hybrid_attention_recurrent",
]
