"""What a study is made of, read from YAML: documented dataclasses, checked when they are made."""

import math
import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import yaml

from flowgression.documents import read_yaml
from flowgression.errors import InputError, did_you_mean
from flowgression.evaluation.features.names import closed_name
from flowgression.study.grid import Grid, Point
from flowgression.training.config import TrainConfig
from flowgression.training.nested import config_from_dict, merged
from flowgression.typed import check_fields

EQUALITIES = ("parameters", "images", "time")


@dataclass(frozen=True, kw_only=True)
class Target:
    """A published figure that points are set beside.

    Attributes:
        model: of this study.
        guidance_scale: the points that it is compared with.
        fid: the figure.
        source: where it was published, and how it was made there.
    """

    model: str
    guidance_scale: float
    fid: float
    source: str

    def __post_init__(self) -> None:
        check_fields(self, "targets: ")


@dataclass(frozen=True, kw_only=True)
class ValidationConfig:
    """The loss of models of a velocity on held-out images, the same images, times and noise for all.

    Attributes:
        num_images: how many images.
        row_length: images of one class in a row, which each model reads in sequences of its own length; a multiple of
            the sequence_length of every model.
        split: of the data that a model is trained on.
        num_bins: equal parts of time in the report.
        seed: of images, times and noise.
    """

    num_images: int = 4000
    row_length: int = 10
    split: str = "test"
    num_bins: int = 5
    seed: int = 0

    def __post_init__(self) -> None:
        check_fields(self, "validation.")
        for name in ("num_images", "row_length", "num_bins"):
            if getattr(self, name) < 1:
                raise InputError(f"validation.{name}={getattr(self, name)} must be one or more")


@dataclass(frozen=True, kw_only=True)
class StudyConfig:
    """A study.

    Attributes:
        title: heading of the report.
        train: settings of `flowgression train` that all models share.
        models: by name, what differs from `train`; or {pipeline: NAME} for a model that is taken as it is.
        seeds: each model is trained once with each.
        equal: what must agree between the trained models: parameters (within parameter_tolerance), images, or
            time: then max_steps of each model is measured so that training takes time_seconds.
        parameter_tolerance: largest relative distance of a model's parameters from the median.
        time_seconds: see equal.
        num_images: images for each model, seed and point; the classes take turns.
        batch_size: images made at once.
        sampling_seed: the noise is that of sampling_seed + the training seed, the same for all models and points.
        grids: how the models are sampled; the first point of the first grid is the main one.
        validation: losses on held-out images that are measured too; null for none.
        compare: model: [baseline, ...], whose differences the report gives, in FID and in validation loss.
        reference: images to compare with, as `flowgression evaluate --reference`. A model's section may name its own,
            where models are trained on different data.
        real: other real images to be judged like samples, the best that can be reached; null for none.
        image_size: to which reference and real are resized; null takes data.image_size of `train`.
        features: as `flowgression evaluate --features`; package.module:attribute, which runs code, must be allowed by
            whoever starts the study (`read_study`).
        keep: images of each set whose features serve KID, precision and recall.
        bootstrap: resamplings for the intervals of each point.
        targets: published figures, which the report sets beside ours.
        device: where models are sampled and features computed, and where models are trained unless `train` says
            otherwise: auto, cpu, cuda or mps. On a machine with several GPUs each job takes its own.
        dtype: precision of the networks when they are sampled: float32, tf32 (float32 whose matrix products on CUDA
            use TensorFloat32, as `flowgression sample` has it), bfloat16 or float16.
        groups: which models share a panel of the plots, by the panel's title; all in one by default.
        jobs: processes that train and sample at the same time; torchrun may start others (docs/evaluation.md).
        num_threads: CPU threads of each.
        out: folder of the study.
    """

    title: str = "Study"
    train: dict[str, Any] = field(default_factory=dict)
    models: dict[str, dict[str, Any]] = field(default_factory=dict)
    seeds: list[int] = field(default_factory=lambda: [0])
    equal: list[str] = field(default_factory=lambda: ["parameters", "images"])
    parameter_tolerance: float = 0.1
    time_seconds: float | None = None
    num_images: int = 1000
    batch_size: int = 100
    sampling_seed: int = 1000
    grids: list[Grid] = field(default_factory=lambda: [Grid(num_inference_steps=[25])])
    validation: ValidationConfig | None = None
    compare: dict[str, list[str]] = field(default_factory=dict)
    reference: str = "mnist:train"
    real: str | None = None
    image_size: int | None = None
    features: str = "mnist"
    keep: int = 5000
    bootstrap: int = 100
    targets: list[Target] = field(default_factory=list)
    device: Literal["auto", "cpu", "cuda", "mps"] = "auto"
    dtype: Literal["float32", "tf32", "bfloat16", "float16"] = "float32"
    groups: dict[str, list[str]] = field(default_factory=dict)
    jobs: int = 1
    num_threads: int = 1
    out: str = "runs/study"

    def __post_init__(self) -> None:
        check_fields(self)
        object.__setattr__(self, "out", os.path.expanduser(self.out))  # no shell reads ~ in a file
        if not self.models:
            raise InputError("a study needs models: a section `models` with a name and its settings for each")
        for name in ("num_images", "batch_size", "keep", "jobs", "num_threads"):
            if getattr(self, name) < 1:
                raise InputError(f"{name}={getattr(self, name)} must be one or more")
        if not self.seeds or len(set(self.seeds)) < len(self.seeds):
            raise InputError(f"seeds={self.seeds} must be one or more different numbers")
        for name in self.equal:
            if name not in EQUALITIES:
                raise InputError(f"equal: {name!r} is unknown; {did_you_mean(name, EQUALITIES)}")
        if "time" in self.equal and ("images" in self.equal or not self.time_seconds):
            raise InputError("equal: time needs time_seconds, and cannot be combined with images")
        listed = [model for grid in self.grids for model in grid.models] + [target.model for target in self.targets]
        listed += [name for model, baselines in self.compare.items() for name in (model, *baselines)]
        for model in [*listed, *(model for group in self.groups.values() for model in group)]:
            if model not in self.models:
                raise InputError(f"no model {model!r} in this study; {did_you_mean(model, self.models)}")
        for model in self.models:
            self.train_config(model, self.seeds[0])

    @property
    def pairs(self) -> list[tuple[str, str]]:
        """Models and baselines that are compared."""
        return [(model, baseline) for model, baselines in self.compare.items() for baseline in baselines]

    @property
    def main_point(self) -> Point:
        """The point by which models are compared first."""
        return self.grids[0].points()[0]

    def points(self, model: str) -> list[Point]:
        """How `model` is sampled, each way once."""
        grids = (grid for grid in self.grids if not grid.models or model in grid.models)
        return list(dict.fromkeys(point for grid in grids for point in grid.points()))

    def seen_by(self, model: str) -> "StudyConfig":
        """The study with the reference of `model`."""
        return replace(self, reference=self.models[model].get("reference", self.reference))

    def taken(self, model: str) -> str | None:
        """The pipeline of a model that is not trained here."""
        return self.models[model].get("pipeline")

    def train_config(self, model: str, seed: int, max_steps: int | None = None) -> TrainConfig | None:
        """How `model` is trained with a seed; None if it is taken as it is.

        Raises:
            InputError: an unknown key or a value that training refuses.
        """
        if self.taken(model):
            return None
        values = {"device": self.device, **merged(self.train, self.models[model])}
        values.pop("reference", None)
        values |= {"seed": seed, "num_threads": self.num_threads, "out": str(self.run_folder(model, seed))}
        if max_steps is not None:
            values["max_steps"] = max_steps
        try:
            return config_from_dict(TrainConfig, values)
        except (InputError, TypeError) as error:
            raise InputError(f"model {model!r} of the study: {error}") from error

    def run_folder(self, model: str, seed: int) -> Path:
        """Where the training run of a model is."""
        return Path(self.out) / "runs" / f"{slug(model)}-seed-{seed}"


def read_study(path: Path, *, import_features: bool = False, **changes: Any) -> StudyConfig:
    """A study from YAML, with values of `changes` that are not None on top.

    Args:
        import_features: whether the file may name code (package.module:attribute) as its features.

    Raises:
        InputError: no such file, no YAML, an unknown key (with the nearest known one), or a wrong value.
    """
    try:
        content = read_yaml(path)
    except FileNotFoundError as error:
        raise InputError(f"there is no file {path}") from error
    except (OSError, yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {error}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold keys and values; docs/evaluation.md shows a study")
    values = {**content, **{name: value for name, value in changes.items() if value is not None}}
    for name, kind in (("grids", Grid), ("targets", Target)):
        entries = values.pop(name, None)
        if entries is not None:
            if not isinstance(entries, list) or not entries:
                raise InputError(f"{path}: {name} must be a list with an entry or more")
            values[name] = [_section(kind, entry, f"{path}: {name}") for entry in entries]
    if values.get("validation") is not None:
        values["validation"] = _section(ValidationConfig, values["validation"], f"{path}: validation")
    study = _section(StudyConfig, values, str(path))
    if not import_features:
        closed_name(study.features, path, "add --import-features")
    return study


def slug(name: str) -> str:
    """A name as a part of file names: "ARFlow S=5" -> "arflow-s-5"."""
    words = "".join(character if character.isalnum() else " " for character in name.lower())
    return "-".join(words.split())


def median(values: list[int]) -> float:
    """The middle value."""
    ordered = sorted(values)
    return (ordered[(len(ordered) - 1) // 2] + ordered[math.ceil((len(ordered) - 1) / 2)]) / 2


def _section(kind: type, values: Any, where: str) -> Any:
    if not isinstance(values, Mapping):
        raise InputError(f"{where}: {values!r} must be a section with keys of its own")
    known = list(getattr(kind, "__dataclass_fields__", values))
    for name in values:
        if name not in known:
            raise InputError(f"{where}: unknown key {name}; {did_you_mean(name, known)}")
    try:
        return kind(**values)
    except TypeError as error:
        raise InputError(f"{where}: {error}") from error
