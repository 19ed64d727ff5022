"""Checkpoints in the layout of latent diffusion's KL autoencoders, such as MAR's KL-16, to diffusers' AutoencoderKL."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from diffusers.models.autoencoders.autoencoder_kl import AutoencoderKL
from torch import Tensor

from flowgression.autoencoders.presets import PRESETS
from flowgression.errors import InputError
from flowgression.layers.released import load_exactly, read_state_dict

FAMILY = "KL autoencoder"
_INSIDE_BLOCK = {"nin_shortcut": "conv_shortcut"}
_INSIDE_ATTENTION = {"norm": "group_norm", "q": "to_q", "k": "to_k", "v": "to_v", "proj_out": "to_out.0"}


def load_released(
    source: str | Path | Mapping[str, Tensor],
    *,
    scaling_factor: float = PRESETS["mar-kl16"].scaling_factor,
    norm_num_groups: int = 32,
    sample_size: int = 256,
) -> AutoencoderKL:
    """An AutoencoderKL with released weights; its sizes are read off their shapes.

    Args:
        source: a checkpoint (.ckpt, .pt, .pth or .safetensors) or a state dict, bare or under "model" or "state_dict".
        scaling_factor: what latents are multiplied by, MAR's by default; it is in no checkpoint.
        norm_num_groups: groups of the normalisation, 32 in every published one; they show in no shape.
        sample_size: pixels of an image's side in training; only tiled decoding reads it.

    Raises:
        InputError: the file is unreadable, holds another model, or one with attention outside of its middle.
    """
    weights = {
        name: value
        for name, value in read_state_dict(source).items()
        if name.startswith(("encoder.", "decoder.", "quant_conv.", "post_quant_conv."))  # not the training's loss
    }
    config = infer_config(weights)
    model: Any = AutoencoderKL(
        **config, scaling_factor=scaling_factor, norm_num_groups=norm_num_groups, sample_size=sample_size
    )
    levels = len(config["block_out_channels"])
    renamed = {}
    for name, value in weights.items():
        new = rename(name, levels)
        # Attention's projections are 1 x 1 convolutions there and linear layers here.
        is_projection = new.endswith(("to_q.weight", "to_k.weight", "to_v.weight", "to_out.0.weight"))
        renamed[new] = value[:, :, 0, 0] if is_projection and value.ndim == 4 else value
    load_exactly(model, renamed, FAMILY)
    return model.eval()


def infer_config(weights: Mapping[str, Tensor]) -> dict[str, Any]:
    """The sizes of a checkpoint, as keywords of AutoencoderKL. Raises InputError where it is another model's."""
    needed = ("encoder.conv_in.weight", "decoder.conv_out.weight", "quant_conv.weight", "post_quant_conv.weight")
    if missing := [name for name in needed if name not in weights]:
        raise InputError(f"this is not a released {FAMILY} checkpoint: it lacks {', '.join(missing)}.")
    if outside := [name for name in weights if re.search(r"\.(down|up)\.\d+\.attn\.", name)]:
        raise InputError(f"this {FAMILY} has attention outside of its middle ({outside[0]}); AutoencoderKL has none")
    blocks = [
        found for name in weights if (found := re.match(r"encoder\.down\.(\d+)\.block\.(\d+)\.conv2\.weight", name))
    ]
    channels = {int(block[1]): weights[block[0]].shape[0] for block in blocks}
    return {
        "in_channels": weights["encoder.conv_in.weight"].shape[1],
        "out_channels": weights["decoder.conv_out.weight"].shape[0],
        "latent_channels": weights["post_quant_conv.weight"].shape[1],
        "block_out_channels": tuple(channels[level] for level in sorted(channels)),
        "layers_per_block": 1 + max(int(block[2]) for block in blocks),
        "down_block_types": ("DownEncoderBlock2D",) * len(channels),
        "up_block_types": ("UpDecoderBlock2D",) * len(channels),
    }


def rename(name: str, levels: int) -> str:
    """A released name in diffusers' words; the decoder's levels are numbered from the other end there.

    Args:
        levels: number of resolutions.
    """
    side, *parts = name.split(".")
    match parts:
        case ["norm_out", last]:
            return f"{side}.conv_norm_out.{last}"
        case ["mid", part, inside, last] if part.startswith("block_"):
            number = int(part.removeprefix("block_")) - 1
            return f"{side}.mid_block.resnets.{number}.{_INSIDE_BLOCK.get(inside, inside)}.{last}"
        case ["mid", "attn_1", inside, last]:
            return f"{side}.mid_block.attentions.0.{_INSIDE_ATTENTION.get(inside, inside)}.{last}"
        case ["down" | "up" as way, level, "block", number, inside, last]:
            blocks = f"down_blocks.{level}" if way == "down" else f"up_blocks.{levels - 1 - int(level)}"
            return f"{side}.{blocks}.resnets.{number}.{_INSIDE_BLOCK.get(inside, inside)}.{last}"
        case ["down", level, "downsample", "conv", last]:
            return f"{side}.down_blocks.{level}.downsamplers.0.conv.{last}"
        case ["up", level, "upsample", "conv", last]:
            return f"{side}.up_blocks.{levels - 1 - int(level)}.upsamplers.0.conv.{last}"
    return name
