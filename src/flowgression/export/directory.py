"""A model as a directory: manifest.json, which says how to sample from it, beside its graphs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import flowgression
from flowgression.documents import read_json
from flowgression.errors import InputError, did_you_mean
from flowgression.export.graph import BATCHES, Exported, Graph, largest_difference, require, write_onnx, write_torch
from flowgression.files import atomic_folder
from flowgression.registry import family_of
from flowgression.sampling.loading import load_pipeline
from flowgression.sampling.request import sampling_defaults

FORMAT, VERSION = "flowgression-export", 1
MANIFEST = "manifest.json"
TOLERANCE = 1e-3
"""Largest difference of one call that is let through; float32 in another order of sums stays far below it."""

WRITERS = {"onnx": (write_onnx, ".onnx"), "torch": (write_torch, ".pt2")}
"""What writes a graph in each format, and how its files end."""


def export_model(name_or_path: str, out: str | Path, *, file_format: str = "onnx") -> dict[str, Any]:
    """Export a model to ONNX, or to torch.export, and compare every graph with PyTorch.

    Args:
        name_or_path: as `load_pipeline` takes it.
        out: the directory. It appears when all is written and compared; an earlier export there is replaced.
        file_format: "onnx" or "torch"; both have the same inputs and outputs.

    Returns:
        The manifest.

    Raises:
        InputError: an unknown format, a missing extra, a directory of other things, a model that has no export, or
            graphs that differ from PyTorch.
    """
    if file_format not in WRITERS:
        raise InputError(f"unknown format {file_format!r}. {did_you_mean(file_format, WRITERS)}")
    _check_out(Path(out))
    write, suffix = WRITERS[file_format]
    if write is write_onnx:
        require()
    pipeline = load_pipeline(name_or_path)
    model = pipeline.transformer.float().eval()
    exported = family_of(model).export_function(model)
    with atomic_folder(out) as folder:
        described, worst = {}, 0.0
        for name, graph in exported.graphs.items():
            path = folder / f"{name}{suffix}"
            difference = largest_difference(graph, write(graph, path))
            if not difference <= TOLERANCE:
                raise InputError(
                    f"{path.name} differs from PyTorch by {difference:.2g}, more than {TOLERANCE}: use another torch."
                )
            worst = max(worst, difference)
            described[name] = _describe(graph, path)
        manifest = _manifest(Path(name_or_path).name, pipeline, exported, described)
        manifest["file_format"] = file_format
        manifest["check"] = {"max_difference": worst, "batch_sizes": list(BATCHES), "calls": 1}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


def _check_out(folder: Path) -> None:
    """InputError for a directory that holds something else than an export, which would be lost."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        found = read_json(folder / MANIFEST)["format"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT:
        raise InputError(f"{folder} exists and is no export; give a new directory.")


def _describe(graph: Graph, path: Path) -> dict[str, Any]:
    axes = graph.axes()
    with torch.no_grad():
        found = graph.module(*graph.inputs.values())
    outputs = [found] if isinstance(found, torch.Tensor) else found
    inputs = [
        {
            "name": name,
            "dtype": str(value.dtype).removeprefix("torch."),
            "shape": [axes[name].get(axis, size) for axis, size in enumerate(value.shape)],
        }
        for name, value in graph.inputs.items()
    ]
    results = [
        {"name": name, "dtype": "float32", "shape": ["batch", *value.shape[1:]]}
        for name, value in zip(graph.outputs, outputs, strict=True)
    ]
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    return {"file": path.name, "sha256": digest, "inputs": inputs, "outputs": results}


def _manifest(name: str, pipeline: Any, exported: Exported, graphs: dict[str, Any]) -> dict[str, Any]:
    model, family = pipeline.transformer, family_of(pipeline.transformer)
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    classes = config["num_classes"]
    shapes = {given["name"]: given["shape"] for graph in graphs.values() for given in graph["inputs"]}
    states = [
        {"input": name, "output": output, "shape": shapes[name], "initial": "zeros"}
        for name, output in exported.states.items()
    ]
    return {
        "format": FORMAT,
        "version": VERSION,
        "name": name,
        "family": family.name,
        "config": config,
        "sample": {"channels": config["in_channels"], "size": config["sample_size"]},
        "class_names": pipeline.class_names,
        "num_classes": classes,
        "null_label": classes,
        "graphs": graphs,
        "state": states,
        "time": {"noise": 0, "data": 1, "grid": "uniform", "path": config.get("path", "linear")},
        "defaults": {"solver": "euler", **sampling_defaults(model)},
        "provenance": {"flowgression": flowgression.__version__, "torch": torch.__version__, "paper": family.paper},
        **exported.facts,
    }
