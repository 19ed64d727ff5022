"""A model as a directory: manifest.json, which says how to sample from it, beside its graphs."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

import flowgression
from flowgression.errors import InputError, did_you_mean
from flowgression.export.graph import BATCHES, Graph, largest_difference, require, write_onnx, write_torch
from flowgression.export.scales import Head, Transformer
from flowgression.export.velocity import Velocity, VelocityWithState
from flowgression.files import atomic_folder
from flowgression.registry import family_of
from flowgression.sampling.loading import load_pipeline

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
    family = family_of(model)
    graphs = scale_graphs(model) if family.draws_scales else velocity_graphs(model, family.reads_sequences)
    with atomic_folder(out) as folder:
        described, worst = {}, 0.0
        for name, graph in graphs.items():
            path = folder / f"{name}{suffix}"
            difference = largest_difference(graph, write(graph, path))
            if not difference <= TOLERANCE:
                raise InputError(
                    f"{path.name} differs from PyTorch by {difference:.2g}, more than {TOLERANCE}: use another torch."
                )
            worst = max(worst, difference)
            described[name] = _describe(graph, path)
        manifest = _manifest(Path(name_or_path).name, pipeline, family, described)
        manifest["file_format"] = file_format
        manifest["check"] = {"max_difference": worst, "batch_sizes": list(BATCHES), "calls": 1}
        (folder / MANIFEST).write_text(json.dumps(manifest, indent=1))
    return manifest


def _check_out(folder: Path) -> None:
    """InputError for a directory that holds something else than an export, which would be lost."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return
    try:
        found = json.loads((folder / MANIFEST).read_text())["format"]
    except (OSError, ValueError, KeyError, TypeError):
        found = None
    if found != FORMAT:
        raise InputError(f"{folder} exists and is no export; give a new directory.")


def velocity_graphs(model: Any, has_state: bool) -> dict[str, Graph]:
    """The graph of a SiT or an ARFlow. Raises InputError for an ARFlow whose state is no matrix."""
    channels, (height, width) = model.config.in_channels, model.size
    inputs = {
        "x": torch.randn(2, channels, height, width),
        "t": torch.tensor([0.3, 0.7]),
        "class_labels": torch.tensor([0, model.config.num_classes]),
    }
    if not has_state:
        return {"velocity": Graph(Velocity(model), inputs, ["velocity"])}
    if model.config.context != "hybrid":
        raise InputError(f"an ARFlow with context={model.config.context!r} has no export; only 'hybrid' has.")
    blocks, heads = len(model.blocks), model.config.num_heads
    d = model.config.hidden_size // heads
    inputs["state"] = torch.randn(2, blocks, heads, d, d)
    return {"velocity": Graph(VelocityWithState(model), inputs, ["velocity", "next_state", "log_decay"])}


def scale_graphs(model: Any) -> dict[str, Graph]:
    """The graphs of a FlowAR. Raises InputError for a model with two flow heads."""
    if len(model.flow_heads) != 1:
        raise InputError("a model with two flow heads has no export.")
    config, scales = model.config, model.scales
    sides = [side * config.patch_size for side in scales]
    maps = {f"map{k + 1}": torch.randn(2, config.in_channels, side, side) for k, side in enumerate(sides[:-1])}
    labels = {"class_labels": torch.tensor([0, config.num_classes])}
    tokens, channels = scales[-1] ** 2, config.in_channels * config.patch_size**2
    head = {
        "tokens": torch.randn(2, tokens, channels),
        "time_step": torch.tensor([300.0, 960.0]),
        "semantics": torch.randn(2, tokens, config.hidden_size),
        "positions": torch.arange(tokens) + sum(side**2 for side in scales[:-1]),
    }
    varying = {"tokens": {1: "tokens"}, "semantics": {1: "tokens"}, "positions": {0: "tokens"}}
    return {
        "transformer": Graph(Transformer(model), labels | maps, ["semantics"]),
        "head": Graph(Head(model), head, ["velocity"], frozenset({"positions"}), varying),
    }


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


def _manifest(name: str, pipeline: Any, family: Any, graphs: dict[str, Any]) -> dict[str, Any]:
    model = pipeline.transformer
    config = {key: value for key, value in model.config.items() if not key.startswith("_")}
    classes = config["num_classes"]
    manifest: dict[str, Any] = {
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
        "state": [],
        "time": {"noise": 0, "data": 1, "grid": "uniform", "path": config.get("path", "linear")},
        "defaults": {"solver": "euler", **family.sampling},
        "provenance": {"flowgression": flowgression.__version__, "torch": torch.__version__, "paper": family.paper},
    }
    if family.draws_scales:
        manifest["scales"] = list(model.scales)
        manifest["patch_size"] = config["patch_size"]
    elif family.reads_sequences:
        state = next(each for each in graphs["velocity"]["inputs"] if each["name"] == "state")
        manifest["state"] = [{"input": "state", "output": "next_state", "shape": state["shape"], "initial": "zeros"}]
    return manifest
