"""The sizes of the FlowAR paper (table 1), for latents of 16 x 16 x 16 and 1000 classes.

S, L and H are the released ones. B was described as about 300M parameters but not released; here it follows the rule of
its siblings L and H: twelve cross-attention blocks in the flow head.

The fast sizes are FastFlowAR (arXiv 2502.16490): the same networks with low-rank attention in heads of width 8, where
the rank, C(10, 2) = 45, stays below the 256 tokens of the finest map. The paper gives no sizes; degree, tau are ours.
"""

from typing import Any

from flowgression.families.presets import look_up


def _size(width: int, depth: int, heads: int, flow_width: int, flow_depth: int, cross: bool) -> dict[str, Any]:
    return {
        "hidden_size": width,
        "encoder_depth": depth,
        "decoder_depth": depth,
        "num_heads": heads,
        "flow_width": flow_width,
        "flow_depth": flow_depth,
        "cross_attention": cross,
    }


PRESETS: dict[str, dict[str, Any]] = {
    "S": _size(768, 6, 12, 1024, 2, False),
    "B": _size(768, 6, 12, 768, 12, True),
    "L": _size(1024, 8, 16, 1024, 12, True),
    "H": _size(1536, 15, 16, 1536, 12, True),
}
FAST_HEAD_WIDTH = 8


def _fast(size: dict[str, Any]) -> dict[str, Any]:
    heads = {
        "num_heads": size["hidden_size"] // FAST_HEAD_WIDTH,
        "flow_num_heads": size["flow_width"] // FAST_HEAD_WIDTH,
    }
    return {**size, **heads, "attention": "lowrank", "attention_degree": 2, "attention_max_tau": 2.0}


PRESETS |= {f"fast-{name}": _fast(size) for name, size in PRESETS.items()}


def preset_config(name: str, **overrides: Any) -> dict[str, Any]:
    """The keywords of `FlowAR` for preset `name`, with `overrides` on top. Raises InputError for an unknown name."""
    return look_up("FlowAR", PRESETS, name, overrides)
