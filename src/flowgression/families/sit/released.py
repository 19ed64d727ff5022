"""Weights of the released SiT (and DiT, whose layout is the same) to this library's."""

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.dit.released import infer_config
from flowgression.families.sit.model import SiT
from flowgression.layers.released import load_exactly, read_state_dict

_RELEASED_HEADS = {384: 6, 768: 12, 1024: 16, 1152: 16}


def load_released(source: str | Path | Mapping[str, Tensor], num_heads: int | None = None) -> SiT:
    """A SiT with released weights; the configuration is inferred from the shapes.

    Args:
        source: a .safetensors, .pt or .pth file or a state dict, bare or under "ema" or "model".
        num_heads: heads of the attention, which no shape shows; by default those of the published size of this
            width. Weights of another width need it.

    Returns:
        The model in evaluation mode, float32, on the CPU. It gives the released outputs up to floating-point error.

    Raises:
        InputError: the file is unreadable or holds another model, or nothing says how many heads it has.
    """
    weights = read_state_dict(source)
    config = infer_config(weights, "SiT")
    width = config["hidden_size"]
    heads = _RELEASED_HEADS.get(width) if num_heads is None else num_heads
    model = SiT(**config, num_heads=1 if heads is None else heads)
    weights.pop("pos_embed")  # a fixed table, computed here
    load_exactly(model, weights, "SiT")
    if heads is None:  # asked last: weights of another model are refused for what they are
        raise InputError(
            f"the weights are of width {width}, which no published SiT has, and no shape shows how many heads they "
            "have; say it: num_heads=A, or --num-heads A of `flowgression convert`."
        )
    return model.eval()
