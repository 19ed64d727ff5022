"""Pure tensor functions without parameters; torch only."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "degree_for": "flowgression.ops.lowrank",
        "error_certificate": "flowgression.ops.lowrank",
        "hybrid_attention": "flowgression.ops.hybrid_linear",
        "hybrid_attention_chunk": "flowgression.ops.hybrid_linear",
        "hybrid_attention_naive": "flowgression.ops.hybrid_linear",
        "hybrid_attention_recurrent": "flowgression.ops.hybrid_linear",
        "logit_bounds": "flowgression.ops.lowrank",
        "lowrank_attention": "flowgression.ops.lowrank",
        "minimax_exp": "flowgression.ops.lowrank",
        "rank": "flowgression.ops.lowrank",
        "softmax_attention": "flowgression.ops.lowrank",
    },
)
