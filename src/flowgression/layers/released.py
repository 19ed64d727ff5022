"""What the converters of released checkpoints share."""

import argparse
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from flowgression.checkpoints import read_checkpoint
from flowgression.errors import InputError
from flowgression.layers.weights import check_finite

_WRAPPERS = ("ema", "model_ema", "model", "state_dict", "module")
_PREFIXES = ("module.", "_orig_mod.")  # of DistributedDataParallel and torch.compile


def read_state_dict(source: str | Path | Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The weights of a released checkpoint.

    Args:
        source: a file as `read_checkpoint` takes it, or a state dict. One that is wrapped as {"ema": ..., "model": ...}
            is unwrapped, the EMA weights first; names lose what torch.compile and DistributedDataParallel put before
            them.

    Raises:
        InputError: a missing or unreadable file, or one without tensors.
    """
    content = dict(source) if isinstance(source, Mapping) else read_checkpoint(Path(source))
    while inside := next((content[key] for key in _WRAPPERS if isinstance(content.get(key), Mapping)), None):
        content = dict(inside)
    weights = {_bare(str(name)): value for name, value in content.items() if isinstance(value, Tensor)}
    if not weights:
        raise InputError("the checkpoint holds no tensors; expected a state dict or one under 'ema' or 'model'.")
    return weights


def read_args(content: Mapping[str, Any]) -> dict[str, Any]:
    """The arguments of the training script, where a checkpoint holds them; else {}."""
    args = content.get("args")
    return dict(vars(args)) if isinstance(args, argparse.Namespace) else dict(args) if isinstance(args, dict) else {}


def check_constant(name: str, given: Tensor, computed: Tensor) -> None:
    """InputError unless a table of a checkpoint is the constant that the model computes, to its own precision."""
    tolerance = 1e-5 if given.dtype in (torch.float32, torch.float64) else 1e-2  # bfloat16 has 8 bits
    if given.shape != computed.shape:
        raise InputError(f"{name} has shape {tuple(given.shape)}; this model computes one of {tuple(computed.shape)}.")
    difference = float((given.double() - computed.double()).abs().max()) if given.numel() else 0.0
    if not difference <= tolerance * max(1.0, float(computed.abs().max())):
        raise InputError(
            f"{name} is not the table that the published models compute (largest difference {difference:.2g}): it was "
            "learned, interpolated or scaled, and this model would draw with another one."
        )


def _bare(name: str) -> str:
    while prefix := next((each for each in _PREFIXES if name.startswith(each)), ""):
        name = name.removeprefix(prefix)
    return name


def load_exactly(model: nn.Module, weights: Mapping[str, Tensor], family: str) -> None:
    """Load `weights` into `model`; a name or shape too many or too few, or NaN, raises InputError."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    given = {name: tuple(value.shape) for name, value in weights.items()}
    if own != given:
        wrong = sorted(name for name in own.keys() | given.keys() if own.get(name) != given.get(name))
        raise InputError(
            f"this is not a released {family} checkpoint: {len(wrong)} names or shapes differ, first {wrong[:3]}."
        )
    check_finite(weights, f"the {family} checkpoint")
    model.load_state_dict(weights)
