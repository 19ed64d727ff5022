"""Weights of the authors' released ARFlow to this library's."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from flowgression.families.arflow.model import ARFlow
from flowgression.families.dit.released import infer_config
from flowgression.layers.released import load_exactly, read_state_dict


def load_released(source: str | Path | Mapping[str, Tensor]) -> ARFlow:
    """An ARFlow with released weights; the configuration is inferred from the shapes.

    Args:
        source: a .safetensors, .pt or .pth file or a state dict, bare or under "ema" or "model".

    Returns:
        The model in evaluation mode, float32, on the CPU. It gives the released outputs up to floating-point error.

    Raises:
        InputError: the file is unreadable or holds another model.
    """
    weights = read_state_dict(source)
    gate = "blocks.0.attn.gt_proj.weight"
    config = infer_config(weights, "ARFlow", gate)
    model = ARFlow(**config, num_heads=weights[gate].shape[0])
    weights.pop("pos_embed")  # a fixed table, computed here
    load_exactly(model, weights, "ARFlow")
    return model.eval()
