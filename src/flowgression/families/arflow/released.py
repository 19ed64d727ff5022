"""Weights of the authors' released ARFlow to this library's."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from flowgression.families.arflow.model import ARFlow
from flowgression.families.dit.released import infer_config, load_weights, require_classes
from flowgression.layers.released import read_args, read_checkpoint, read_state_dict


def load_released(source: str | Path | Mapping[str, Tensor], num_classes: int | None = None) -> ARFlow:
    """An ARFlow with released weights; the configuration is inferred from the shapes.

    Args:
        source: a .safetensors, .pt or .pth file or a state dict, bare or under "ema" or "model".
        num_classes: see `infer_config`; by default that of the training script's arguments, if the file has them.

    Returns:
        The model in evaluation mode, float32, on the CPU. It gives the released outputs up to floating-point error.

    Raises:
        InputError: the file is unreadable or holds another model, or nothing says how many classes it has.
    """
    content = source if isinstance(source, Mapping) else read_checkpoint(Path(source))
    weights = read_state_dict(content)
    gate = "blocks.0.attn.gt_proj.weight"
    config = infer_config(weights, "ARFlow", gate, num_classes=num_classes, trained_with=read_args(content))
    model = ARFlow(**config, num_heads=weights[gate].shape[0])
    load_weights(model, weights, "ARFlow")
    require_classes(weights, num_classes, read_args(content), model.label_table)
    return model.eval()
