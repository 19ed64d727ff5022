"""Weights of the authors' released FlowAR to this library's."""

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.flowar.model import FlowAR
from flowgression.layers.released import check_constant, load_exactly, read_state_dict
from flowgression.layers.rotary import rotary_frequencies

_RENAMED = (
    (r"^(encoder|decoder)_pos_embed_learned$", r"\1_position"),
    (r"^diffusion_pos_embed_learned$", "semantics_position"),
    (r"^class_emb\.", "class_embed."),
    (r"^z_proj_ln\.", "input_norm."),
    (r"^z_proj\.", "input_proj."),
    (r"^decoder_embed\.", "decoder_proj."),
    (r"^flownet\.final_layer\.linear\.", "flow_head.output_proj."),
    (r"^flownet\.final_layer\.adaLN_modulation\.", "flow_head.final_modulation."),
    (r"^flownet\.res_blocks\.", "flow_head.blocks."),
    (r"^flownet\.", "flow_head."),
    (r"\.ada_lin_(attn|mlp)\.", r".\1_modulation.1."),
    (r"\.ada_lin\.(?:1\.)?", ".modulation.1."),
    (r"\.crossattn\.", ".cross_attn."),
    (r"\.norm2_1\.", ".cross_norm."),
    (r"\.norm2_2\.", ".semantics_norm."),
    (r"\.mlp\.fc1_g\.", ".mlp.gate."),
    (r"\.mlp\.fc1_x\.", ".mlp.value."),
    (r"\.mlp\.fc2\.", ".mlp.out."),
)


def rename(name: str) -> str:
    """The name of a released weight in this library."""
    for pattern, replacement in _RENAMED:
        name = re.sub(pattern, replacement, name)
    return name


def load_released(source: str | Path | Mapping[str, Tensor]) -> FlowAR:
    """A FlowAR with released weights; the configuration is inferred from shapes and buffers.

    Args:
        source: a .safetensors, .pt or .pth file or a state dict, bare or under "ema", "model_ema" or "model".

    Returns:
        The model in evaluation mode, float32, on the CPU. It gives the released outputs up to floating-point error.

    Raises:
        InputError: the file is unreadable or holds another model.
    """
    released = read_state_dict(source)
    model = FlowAR(**infer_config(released))
    constants = [name for name in released if name == "mask" or name.endswith(".rope.freqs")]
    for name in constants:
        if name != "mask":  # which the scales were read off
            check_constant(name, released[name], rotary_frequencies(4 * len(released[name])))
    weights = {rename(name): value for name, value in released.items() if name not in constants}
    load_exactly(model, weights, "FlowAR")
    return model.eval()


def infer_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The keywords of `FlowAR` for a released state dict.

    Raises:
        InputError: a name that every released checkpoint has is missing.
    """
    needed = (
        "mask", "z_proj.weight", "class_emb.weight", "flownet.cond_embed.weight",
        "encoder_blocks.0.attn.rope.freqs", "flownet.res_blocks.0.attn.rope.freqs",
    )  # fmt: skip
    missing = [name for name in needed if name not in weights]
    if missing:
        raise InputError(f"this is not a released FlowAR checkpoint: it lacks {', '.join(missing)}.")
    hidden_size, in_channels = weights["z_proj.weight"].shape
    flow_width = weights["flownet.cond_embed.weight"].shape[0]
    scales = _scales_of(weights["mask"])
    return {
        "sample_size": scales[-1],
        "in_channels": in_channels,
        "scales": scales,
        "hidden_size": hidden_size,
        "encoder_depth": _depth(weights, "encoder_blocks."),
        "decoder_depth": _depth(weights, "decoder_blocks."),
        # A frequency turns two channels on each of two axes.
        "num_heads": hidden_size // (4 * len(weights["encoder_blocks.0.attn.rope.freqs"])),
        "flow_width": flow_width,
        "flow_depth": _depth(weights, "flownet.res_blocks."),
        "flow_num_heads": flow_width // (4 * len(weights["flownet.res_blocks.0.attn.rope.freqs"])),
        "cross_attention": "flownet.res_blocks.0.crossattn.q.weight" in weights,
        "num_classes": weights["class_emb.weight"].shape[0] - 1,
    }


def _scales_of(mask: Tensor) -> tuple[int, ...]:
    """Sides of the scales from the block-causal mask [1, 1, L, L], which is 0 where a token may look.

    Raises:
        InputError: tokens that belong to no square map.
    """
    visible = sorted({int(count) for count in (mask[0, 0] == 0).sum(-1)})
    counts = [stop - start for start, stop in zip([0, *visible], visible, strict=False)]
    scales = tuple(math.isqrt(count) for count in counts)
    if sum(side**2 for side in scales) != mask.shape[-1] or list(scales) != sorted(set(scales)):
        raise InputError(
            f"this FlowAR has tokens beside those of its maps ({counts}): it was trained with buffer_size > 0, "
            "a buffer of class tokens, which this library does not have; the published models have none."
        )
    return scales


def _depth(weights: Mapping[str, Tensor], prefix: str) -> int:
    return len({name.removeprefix(prefix).split(".")[0] for name in weights if name.startswith(prefix)})
