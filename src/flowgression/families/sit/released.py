"""Weights of the released SiT (and DiT, whose layout is the same) to this library's."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.dit.released import infer_config, load_weights, require_classes
from flowgression.families.sit.model import SiT
from flowgression.families.sit.presets import PRESETS
from flowgression.layers.released import read_args, read_checkpoint, read_state_dict


def load_released(
    source: str | Path | Mapping[str, Tensor], num_heads: int | None = None, num_classes: int | None = None
) -> SiT:
    """A SiT with released weights; the configuration is inferred from the shapes.

    Args:
        source: a .safetensors, .pt or .pth file or a state dict, bare or under "ema" or "model".
        num_heads: heads of the attention, which no shape shows; by default those of the published size of this width
            and depth. Weights of another size need it.
        num_classes: see `infer_config`; by default that of the training script's arguments, if the file has them.

    Returns:
        The model in evaluation mode, float32, on the CPU. It gives the released outputs up to floating-point error.

    Raises:
        InputError: the file is unreadable or holds another model, or nothing says how many heads or classes it has.
    """
    content = source if isinstance(source, Mapping) else read_checkpoint(Path(source))
    weights = read_state_dict(content)
    config = infer_config(weights, "SiT", num_classes=num_classes, trained_with=read_args(content))
    width, depth = config["hidden_size"], config["depth"]
    published = {(size["hidden_size"], size["depth"]): size["num_heads"] for size in PRESETS.values()}
    heads = published.get((width, depth)) if num_heads is None else num_heads
    model = SiT(**config, num_heads=1 if heads is None else heads)
    load_weights(model, weights, "SiT")
    if heads is None:  # asked last: weights of another model are refused for what they are
        raise InputError(
            f"the weights are of width {width} and depth {depth}, which no published SiT has, and no shape shows how "
            "many heads they have; say it: num_heads=A, or --num-heads A of `flowgression convert`."
        )
    require_classes(weights, num_classes, read_args(content), model.label_table)
    return model.eval()
