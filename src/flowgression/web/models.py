"""The models that are served, and what the page is told of each."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgression.autoencoders.model import as_autoencoder
from flowgression.errors import InputError
from flowgression.registry import family_of
from flowgression.sampling.folders import RUN_PIPELINE
from flowgression.sampling.loading import load_pipeline
from flowgression.sampling.request import predicts_averages, sampling_defaults

SOLVERS = ("euler", "heun", "midpoint")  # which the page offers


@dataclass(frozen=True)
class Served:
    """A pipeline and `about`, its entry in GET /api/models."""

    pipe: Any
    about: dict[str, Any]

    @property
    def shape(self) -> tuple[int, int, int]:
        """[C,H,W] of a picture."""
        sample = self.about["sample"]
        size = sample["size"]
        return (sample["channels"], *((size, size) if isinstance(size, int) else size))

    @property
    def num_classes(self) -> int:
        return int(self.pipe.transformer.config.num_classes)

    @property
    def solvers(self) -> list[str]:
        return list(self.about["solvers"])


def load_models(names: Sequence[str], device: Any = "cpu") -> dict[str, Served]:
    """The models of these names, folders or hub names, by a short name of their own.

    Raises:
        InputError: one that cannot be loaded or sampled by a velocity.
    """
    models: dict[str, Served] = {}
    for name in names:
        pipe = load_pipeline(name).to(device)
        pipe.set_progress_bar_config(disable=True)
        parts = [part for part in (Path(name).resolve() if Path(name).exists() else Path(name)).parts if part != "/"]
        short = parts[-1] if parts else name
        if short == RUN_PIPELINE and len(parts) > 1:  # of a run
            short = parts[-2]
        while short in models:
            short += "'"
        models[short] = Served(pipe, describe(short, pipe))
    return models


def describe(name: str, pipe: Any) -> dict[str, Any]:
    """What the page is told of a pipeline: its entry in GET /api/models. InputError for one that it cannot show."""
    model, family = pipe.transformer, family_of(pipe.transformer)
    if family.draws_scales and len(model.flow_heads) > 1:
        raise InputError(f"{name} is a {type(model).__name__} of several flow heads, which the page does not show")
    autoencoder = as_autoencoder(pipe.vae)
    channels = autoencoder.pixel_channels or model.config.in_channels
    size = model.config.sample_size * autoencoder.downsampling
    about: dict[str, Any] = {
        "id": name,
        "name": name,
        "family": family.name,
        "class_names": pipe.class_names,
        "sample": {"channels": channels, "size": size},
        "defaults": {"solver": SOLVERS[0], **sampling_defaults(model)},
        "abilities": [],
        "solvers": list(SOLVERS),
    }
    if pipe.vae is None:  # the page draws pixels, not latents
        about["abilities"].append("complete")
    if predicts_averages(model):
        about["abilities"].append("averages")
    if family.draws_scales:
        about["scales"] = list(model.scales)
        about["map_sides"] = [side * model.config.patch_size for side in model.scales]
        if pipe.vae is None:
            about["abilities"].append("scales")
    elif family.reads_sequences and model.config.context == "hybrid" and pipe.keeps_state():
        about["abilities"].append("state")
        if pipe.vae is None and model.config.clean > 0:  # it has seen clean images in training
            about["abilities"].append("examples")
    return about
