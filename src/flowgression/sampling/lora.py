"""Saved adapters (LoRA): a small folder beside the model that it was made for.

adapter.json          the model (`base`) and its checksum, its class, rank, alpha, and the class names of the images
adapter.safetensors   lora_A and lora_B of every adapted layer, lora_rows of the labels
"""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors.torch import load_file, save
from torch import Tensor

from flowgression.classes import Classes
from flowgression.documents import check_regular
from flowgression.errors import InputError, reading
from flowgression.files import atomic_write
from flowgression.layers.embeddings import label_places, label_rows
from flowgression.layers.lora import ROWS, merge_tensors, without_lora
from flowgression.layers.weights import check_finite, weights_sha256
from flowgression.sampling.folders import ADAPTER_NAME, is_adapter, read_json
from flowgression.typed import check_types

TENSORS_NAME = "adapter.safetensors"
FIELDS = {
    "base": str, "class": str, "rank": int, "alpha": float, "id2label": dict[str, Any] | None,
    "base_sha256": str | None,
}  # fmt: skip
"""Of adapter.json, with their types."""
OPTIONAL = ("id2label", "base_sha256")


def save_adapter(folder: Path, tensors: Mapping[str, Tensor], info: Mapping[str, Any]) -> None:
    """Write an adapter, adapter.json last.

    Args:
        tensors: as `layers.lora.lora_tensors` gives them.
        info: base, base_sha256, class, rank, alpha; id2label if the names of the classes are known.
    """
    folder.mkdir(parents=True, exist_ok=True)
    with atomic_write(folder / TENSORS_NAME) as file:
        file.write(save({name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}))
    with atomic_write(folder / ADAPTER_NAME) as file:
        file.write((json.dumps(dict(info), indent=2) + "\n").encode())


def base_sha256(model: Any) -> str:
    """The checksum of a model's weights without its adapters and without the rows of labels, which may be others."""
    tensors = without_lora(model.state_dict())
    tensors.pop(model.label_table, None)
    return weights_sha256(tensors)


def with_classes(pipe: Any, classes: Classes) -> Any:
    """A pipeline of the same model for other classes: rows of labels go by name, see `label_rows`."""
    model = pipe.transformer
    tensors = model.state_dict()
    tensors[model.label_table] = label_rows(tensors[model.label_table], label_places(pipe.classes, classes))
    other = type(model).from_config({**model.config, "num_classes": len(classes)})
    other.load_state_dict(tensors)
    other = other.to(model.device, model.dtype).train(model.training)
    space = pipe.config.get("latent_space")
    return type(pipe)(other, vae=pipe.vae, id2label=classes.id2label(), latent_space=space)


def read_adapter(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """What adapter.json says, and the tensors.

    Raises:
        InputError: a file is missing or damaged.
    """
    if not is_adapter(folder):
        raise InputError(f"{folder} holds no {ADAPTER_NAME}; give the folder `adapter` of a run with --lora.rank.")
    info = read_json(folder / ADAPTER_NAME)
    if missing := [name for name in FIELDS if name not in info and name not in OPTIONAL]:
        raise InputError(f"{folder / ADAPTER_NAME} does not say {missing[0]!r}; copy the adapter again.")
    check_types(FIELDS, info, f"{folder / ADAPTER_NAME}: ")
    if info["rank"] < 1:
        raise InputError(f"{folder / ADAPTER_NAME}: rank={info['rank']} must be one or more")
    with reading(folder / TENSORS_NAME, "copy the adapter again"):
        tensors = load_file(check_regular(folder / TENSORS_NAME))
    check_finite(tensors, folder / TENSORS_NAME)
    return info, tensors


def adapter_classes(info: Mapping[str, Any], adapters: Mapping[str, Tensor]) -> Classes | None:
    """The classes that an adapter counts; None for one without rows of labels."""
    rows = [tensor for name, tensor in adapters.items() if name.endswith(ROWS)]
    return Classes.from_id2label(info.get("id2label"), len(rows[0]) - 1) if rows else None


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
    model, classes = pipe.transformer, adapter_classes(info, adapters)
    if info["class"] != type(model).__name__:
        raise InputError(f"{folder} is an adapter of a {info['class']}; this pipeline has a {type(model).__name__}.")
    if classes is not None and classes != pipe.classes:
        raise InputError(
            f"{folder} is an adapter with classes of its own ({', '.join(classes.titles[:5])}, ...); "
            "load_pipeline loads it with its model."
        )
    model.load_state_dict(merge_tensors(model.state_dict(), adapters, weight * info["alpha"] / info["rank"]))
