"""What the converters of released checkpoints share."""

from collections.abc import Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from flowgression.errors import InputError

_WRAPPERS = ("ema", "model_ema", "model", "state_dict", "module")


def read_state_dict(source: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a released checkpoint.

    Args:
        source: a .safetensors file, a .pt or .pth file (read with weights_only=True), or a state dict. A state dict
            wrapped as {"ema": ..., "model": ...} is unwrapped, the EMA weights first.

    Raises:
        InputError: a missing or unreadable file, or one without tensors.
    """
    if isinstance(source, Mapping):
        content = dict(source)
    else:
        path = Path(source)
        if not path.is_file():
            raise InputError(f"no checkpoint file at {path}; give a .safetensors, .pt or .pth file.")
        try:
            if path.suffix == ".safetensors":
                content = load_file(path)
            else:
                content = torch.load(path, map_location="cpu", weights_only=True)
        except Exception as error:
            raise InputError(f"cannot read {path} as a checkpoint ({error}); is it complete?") from error
        if not isinstance(content, Mapping):
            raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    for key in _WRAPPERS:
        if isinstance(content.get(key), Mapping):
            content = dict(content[key])
            break
    weights = {str(name).removeprefix("module."): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError("the checkpoint holds no tensors; expected a state dict or one under 'ema' or 'model'.")
    return weights


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor], family: str) -> None:
    """Load `weights` into `model`; a name or shape too many or too few raises InputError."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if own != given:
        wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise InputError(
            f"this is not a released {family} checkpoint: {len(wrong)} names or shapes differ, first {wrong[:3]}."
        )
    model.load_state_dict(weights)
