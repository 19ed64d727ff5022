"""Saved adapters (LoRA): a small folder beside the model that it was made for.

adapter.json          the model (`base`), its class, rank, alpha, and the class names of the images
adapter.safetensors   lora_A and lora_B of every adapted layer
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from flowgression.documents import check_regular
from flowgression.errors import InputError, reading
from flowgression.files import atomic_write
from flowgression.layers.lora import merge_tensors
from flowgression.sampling.folders import ADAPTER_NAME, is_adapter, read_json
from flowgression.typed import check_types

TENSORS_NAME = "adapter.safetensors"
FIELDS = {"base": str, "class": str, "rank": int, "alpha": float, "id2label": dict[str, Any] | None}
"""Of adapter.json, with their types; class names may be missing."""


def save_adapter(folder: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write an adapter, adapter.json last.

    Args:
        tensors: as `layers.lora.lora_tensors` gives them.
        info: base, class, rank, alpha; id2label if the names of the classes are known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / TENSORS_NAME) as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
    with atomic_write(folder / ADAPTER_NAME) as file:
        file.write((json.dumps(dict(info), indent=2) + "\n").encode())


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What adapter.json says, and the tensors.

    Raises:
        InputError: a file is missing or damaged.
    """
    if not is_adapter(folder):
        raise InputError(f"{folder} holds no {ADAPTER_NAME}; give the folder `adapter` of a run with --lora.rank.")
    info = read_json(folder / ADAPTER_NAME)
    if missing := [name for name in FIELDS if name not in info and name != "id2label"]:
        raise InputError(f"{folder / ADAPTER_NAME} does not say {missing[0]!r}; copy the adapter again.")
    check_types(FIELDS, info, f"{folder / ADAPTER_NAME}: ")
    if info["rank"] < 1:
        raise InputError(f"{folder / ADAPTER_NAME}: rank={info['rank']} must be one or more")
    with reading(folder / TENSORS_NAME, "copy the adapter again"):
        return info, load_file(check_regular(folder / TENSORS_NAME))


def load_adapter(pipe: Any, folder: str | Path, weight: float = 1.0) -> None:
    """Add a saved adapter to the weights of `pipe.transformer`, in place.

    Args:
        pipe: a pipeline of the model that the adapter was made for.
        folder: as a run with `--lora.rank` writes it, RUN/adapter.
        weight: how much of it; 0 leaves the model as it is, -1 takes away what 1 added, up to floating-point error.

    Raises:
        InputError: no adapter there, a damaged one, or one of another model.
    """
    info, adapters = read_adapter(Path(folder))
    model = pipe.transformer
    if info["class"] != type(model).__name__:
        raise InputError(f"{folder} is an adapter of a {info['class']}; this pipeline has a {type(model).__name__}.")
    model.load_state_dict(merge_tensors(model.state_dict(), adapters, weight * info["alpha"] / info["rank"]))
