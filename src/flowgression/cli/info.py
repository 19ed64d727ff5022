"""`flowgression info`: what a model is, without loading its weights: configuration, parameters, size."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from math import prod
from pathlib import Path
from typing import Any

from flowgression.classes import Classes
from flowgression.cli._outputs import readable_size
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, reading
from flowgression.registry import FAMILIES, find_family

SUMMARY = "describe a model, a checkpoint or a published size"

DESCRIPTION = """Describe a model: its configuration, its number of parameters and its size. NAME is one of

  arflow-mnist          a built-in model
  DIR or owner/name     a model's folder, or a model on the Hugging Face hub
  FILE                  a checkpoint (.safetensors, .pt, .pth)
  arflow:XL/2           a published size of a family
  arflow                all published sizes of a family

Without NAME: the built-in models and the families."""


@dataclass
class Description:
    """Rows of "what: value" under a title."""

    title: str
    rows: dict[str, str] = field(default_factory=dict)


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("info", DESCRIPTION)
    parser.add_argument("name", metavar="NAME", nargs="?", help="what to describe")
    args = parser.parse(argv)
    from rich.table import Table

    from flowgression.terminal import Terminal
    from flowgression.text import one_line

    show = Terminal().print

    for description in describe(args.name):
        table = Table(title=description.title, title_justify="left", show_header=False)
        for what, value in description.rows.items():
            table.add_row(what, one_line(value))
        show(table)
    return 0


def describe(name: str | None) -> list[Description]:
    """What there is to say about `name`.

    Raises:
        InputError: nothing of that name exists, or it is damaged.
    """
    if name is None:
        return [_overview(FAMILIES)]
    family, colon, preset = name.partition(":")
    if colon and "/" not in family and not Path(name).exists():
        find_family(family)
        return [_published_size(family, preset)]
    if name in FAMILIES and not Path(name).exists():
        return [_family(name)]
    if Path(name).is_file():
        return [_checkpoint(Path(name))]
    from flowgression.sampling.folders import find_folder

    return [_folder(name, find_folder(name))]


def _overview(families: Iterable[str]) -> Description:
    from flowgression.sampling.folders import builtin_models

    rows = {name: f"built in, {readable_size(_size_of(folder))}" for name, folder in builtin_models().items()}
    rows |= {family: f"family with sizes {', '.join(_presets(family))}" for family in families}
    return Description("models", rows)


def _family(family: str) -> Description:
    rows = {
        f"{family}:{name}": ", ".join(f"{key}={value}" for key, value in config.items())
        for name, config in _presets(family).items()
    }
    return Description(f"published sizes of {family}", rows)


def _published_size(family: str, preset: str) -> Description:
    find_family(family).presets_module.preset_config(preset)  # refuses an unknown name before the slow imports
    import torch

    from flowgression.registry import build_model

    with torch.device("meta"):  # shapes only: the largest sizes need no memory
        model = build_model(family, preset)
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    rows = {"model": type(model).__name__, **_counts(shapes, 4), **_configuration(model.config)}
    return Description(f"{family}:{preset}", rows)


def _folder(name: str, folder: Path) -> Description:
    from flowgression.sampling.folders import CONFIG_NAME, INDEX_NAME, read_index, read_json, weight_shapes

    if (folder / CONFIG_NAME).is_file() and not (folder / INDEX_NAME).is_file():
        config, shapes, rows = read_json(folder / CONFIG_NAME), weight_shapes(folder), {}
    else:
        index = read_index(folder)
        if not (folder / "transformer").is_dir():
            raise InputError(f"{folder} holds a {index.get('_class_name')}, which has no transformer to describe.")
        config, shapes = read_json(folder / "transformer" / CONFIG_NAME), weight_shapes(folder / "transformer")
        with reading(folder / INDEX_NAME, "copy or save the model again"):
            id2label = index.get("id2label") or {}
            names = Classes.from_id2label(id2label, 1 + max(map(int, id2label), default=-1)).titles
            rows = {
                "pipeline": str(index.get("_class_name")),
                "autoencoder": str((index.get("vae") or [None, None])[1] or "none (pixels)"),
                "class names": ", ".join(names[:10]) + (", ..." if len(names) > 10 else "") if names else "none",
            }
    rows = {"folder": str(folder), "model": str(config.get("_class_name")), **rows, **_counts(shapes)}
    rows["size on disk"] = readable_size(_size_of(folder))
    return Description(name, {**rows, **_configuration(config)})


def _checkpoint(path: Path) -> Description:
    from flowgression.sampling.folders import tensor_shapes

    if path.suffix == ".safetensors":
        shapes = tensor_shapes(path)
    else:
        from flowgression.layers.released import read_state_dict

        shapes = {name: tuple(value.shape) for name, value in read_state_dict(path).items()}
    rows = {"file": str(path), **_counts(shapes), "tensors": str(len(shapes))}
    return Description(path.name, rows | {"size on disk": readable_size(path.stat().st_size)})


def _presets(family: str) -> Mapping[str, Mapping[str, Any]]:
    return find_family(family).presets_module.PRESETS


def _counts(shapes: Mapping[str, tuple[int, ...]], bytes_each: int | None = None) -> dict[str, str]:
    count = sum(prod(shape) for shape in shapes.values())
    rows = {"parameters": f"{count:,}"}
    if bytes_each is not None:
        rows["size in float32"] = readable_size(bytes_each * count)
    return rows


def _configuration(config: Mapping[str, Any]) -> dict[str, str]:
    return {key: str(value) for key, value in config.items() if not key.startswith("_")}


def _size_of(folder: Path) -> int:
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())
