"""The sizes of FlowAR (arXiv 2412.15205, table 1), for latents of 16 x 16 x 16 and 1000 classes."""

from typing import Any

from flowgression.errors import InputError, did_you_mean

PRESETS: dict[str, dict[str, Any]] = {
    "S": dict(
        hidden_size=768, encoder_depth=6, decoder_depth=6, num_heads=12, flow_width=1024, flow_depth=2,
        cross_attention=False,
    ),
    "B": dict(
        hidden_size=768, encoder_depth=6, decoder_depth=6, num_heads=12, flow_width=768, flow_depth=12,
        cross_attention=True,
    ),
    "L": dict(
        hidden_size=1024, encoder_depth=8, decoder_depth=8, num_heads=16, flow_width=1024, flow_depth=12,
        cross_attention=True,
    ),
    "H": dict(
        hidden_size=1536, encoder_depth=15, decoder_depth=15, num_heads=16, flow_width=1536, flow_depth=12,
        cross_attention=True,
    ),
}  # fmt: skip


def preset_config(name: str, **overrides: Any) -> dict[str, Any]:
    """The arguments of `FlowAR` for a preset, with `overrides` on top.

    Raises:
        InputError: no such preset; names the nearest.
    """
    if name not in PRESETS:
        raise InputError(f"unknown FlowAR preset {name!r}; {did_you_mean(name, PRESETS)}")
    return {**PRESETS[name], **overrides}
