"""Reading the configuration of a DiT-like checkpoint (ARFlow, SiT) off the shapes of its weights."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowgression.errors import InputError

# The tensors that the configuration is read off, and their numbers of dimensions.
_NEEDED = {
    "x_embedder.proj.weight": 4,
    "y_embedder.embedding_table.weight": 2,
    "final_layer.linear.weight": 2,
    "pos_embed": 3,
    "blocks.0.mlp.fc1.weight": 2,
}


def infer_config(weights: Mapping[str, Tensor], family: str, *matrices: str) -> dict[str, Any]:
    """The keywords that both models share.

    The number of heads is not seen in the shapes of every family, so it is left to the caller.

    Args:
        matrices: further weights with two dimensions that the caller reads sizes off.

    Raises:
        InputError: a name that every such checkpoint has is missing, or of another shape.
    """
    needed = _NEEDED | dict.fromkeys(matrices, 2)
    missing = [name for name in needed if name not in weights]
    if missing:
        raise InputError(f"this is not a released {family} checkpoint: it lacks {', '.join(missing)}.")
    if wrong := [name for name, dims in needed.items() if weights[name].ndim != dims or 0 in weights[name].shape]:
        raise InputError(
            f"this is not a released {family} checkpoint: {wrong[0]} has shape {tuple(weights[wrong[0]].shape)}."
        )
    hidden_size, in_channels, patch_size, _ = weights["x_embedder.proj.weight"].shape
    side = math.isqrt(weights["pos_embed"].shape[1]) * patch_size
    out_channels = weights["final_layer.linear.weight"].shape[0] // patch_size**2
    blocks = {name.split(".")[1] for name in weights if name.startswith("blocks.")}
    return {
        "sample_size": side,
        "patch_size": patch_size,
        "in_channels": in_channels,
        "hidden_size": hidden_size,
        "depth": len(blocks),
        "mlp_ratio": weights["blocks.0.mlp.fc1.weight"].shape[0] / hidden_size,
        "num_classes": weights["y_embedder.embedding_table.weight"].shape[0] - 1,
        "learn_sigma": out_channels == 2 * in_channels,
    }
