"""Reading the configuration of a DiT-like checkpoint (ARFlow, SiT) off the shapes of its weights."""

import math
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowgression.errors import InputError


def infer_config(weights: Mapping[str, Tensor], family: str) -> dict[str, Any]:
    """The keywords that both models share.

    The number of heads is not seen in the shapes of every family, so it is left to the caller.

    Raises:
        InputError: a name that every such checkpoint has is missing.
    """
    needed = (
        "x_embedder.proj.weight",
        "y_embedder.embedding_table.weight",
        "final_layer.linear.weight",
        "pos_embed",
    )
    missing = [name for name in needed if name not in weights]
    if missing:
        raise InputError(f"this is not a released {family} checkpoint: it lacks {', '.join(missing)}.")
    hidden_size, in_channels, patch_size, _ = weights["x_embedder.proj.weight"].shape
    side = math.isqrt(weights["pos_embed"].shape[1]) * patch_size
    out_channels = weights["final_layer.linear.weight"].shape[0] // patch_size**2
    blocks = {int(name.split(".")[1]) for name in weights if name.startswith("blocks.")}
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
