"""Checkpoint files that others wrote, read without running anything. A leaf: of this package it knows errors."""

import argparse
import collections
import pathlib
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file

from flowgression.errors import InputError, refuse_pointer

# What training scripts save beside tensors. Each of these only holds values; nothing else of a pickle is looked up.
_HARMLESS: list[Any] = [
    argparse.Namespace,
    collections.OrderedDict,
    *(int, float, str, list, dict, set),
    np.dtype,
    *(type(np.dtype(kind)) for kind in ("f8", "f4", "f2", "i8", "i4", "i2", "i1", "u8", "u4", "u2", "u1", "?")),
    *((np._core.multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),  # type: ignore[attr-defined]
    *((pathlib.PurePosixPath, f"{module}.PosixPath") for module in ("pathlib", "pathlib._local")),
]


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The content of a .safetensors, .pt or .pth file; nothing that it names is executed.

    Raises:
        InputError: a missing, unreadable or foreign file, a Git LFS pointer, or objects other than tensors, numbers and
            what `_HARMLESS` names.
    """
    if not path.is_file():
        raise InputError(f"no checkpoint file at {path}; give a .safetensors, .pt or .pth file.")
    refuse_pointer(path)
    try:
        if path.suffix == ".safetensors":
            content: Any = load_file(path)
        else:
            with torch.serialization.safe_globals(_HARMLESS):
                content = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        if found := re.search(r"GLOBAL (\S+) (?:was not|whose)", str(error)):
            raise InputError(
                f"{path} holds Python objects ({found[1]}) beside its tensors, which are not read, for they could run "
                'code; where it is trusted, save its weights alone: torch.save({"ema": checkpoint["ema"]}, ...)'
            ) from error
        reason = str(error).strip().splitlines() or [type(error).__name__]
        raise InputError(f"cannot read {path} as a checkpoint ({reason[0][:200]}); is it complete?") from error
    if not isinstance(content, Mapping):
        raise InputError(f"{path} holds a {type(content).__name__}; expected a state dict.")
    return dict(content)
