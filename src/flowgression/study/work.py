"""The work of a study: one model with one seed is trained, then sampled and judged point by point.

Everything finished is a file written whole, with the settings that led to it, so that a study killed anywhere resumes
where it was and a changed study repeats only what the change touches. Whoever makes a file holds its lock (`claims`),
so any number of processes may work on one study.
"""

import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from flowgression.devices import pick_device
from flowgression.documents import read_json
from flowgression.errors import InputError
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.base import Extractor
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import ImageSet, NpzImages
from flowgression.evaluation.model import sample_and_measure
from flowgression.evaluation.report import flat_report
from flowgression.evaluation.run import open_reference
from flowgression.evaluation.statistics import Statistics, collect
from flowgression.evaluation.storage import load_statistics, save_statistics, with_own_moments
from flowgression.files import atomic_write
from flowgression.sampling.images import make_grid, save_png
from flowgression.sampling.loading import load_pipeline
from flowgression.study.claims import claim, claim_if_free
from flowgression.study.config import StudyConfig, slug
from flowgression.study.grid import Point
from flowgression.training.config import TrainConfig
from flowgression.training.loop import train
from flowgression.training.nested import config_from_dict, config_to_dict, flat_config
from flowgression.training.resume import differences, is_free

Say = Callable[[str], None]
GRID_ROWS, GRID_COLUMNS = 8, 20  # of the pictures of samples; a column for each class of few
TRAINED = "trained.json"
"""In the folder of a run: that it is finished, and how it was trained."""


class Stopped(Exception):
    """A signal ended a training run; its checkpoint is saved."""


@dataclass(frozen=True)
class Unit:
    """One model with one seed, and its steps of training where the study measured them."""

    model: str
    seed: int
    max_steps: int | None = None


def units(config: StudyConfig, steps: dict[str, int]) -> list[Unit]:
    """All of a study, seeds outermost, so that an unfinished study has compared all models once."""
    return [
        Unit(model, seed, steps.get(model))
        for index, seed in enumerate(config.seeds)
        for model in config.models
        if index == 0 or not config.taken(model)
    ]


def do_unit(config: StudyConfig, unit: Unit, say: Say = print) -> bool:
    """Train and judge; what is finished is left as it is, and so is what another process is at.

    Returns:
        Whether anything was done.

    Raises:
        InputError: a run or a model that does not fit the study's settings.
        Stopped: by a signal while training.
    """
    torch.set_num_threads(config.num_threads)
    if all(finished(config, unit, point) is not None for point in config.points(unit.model)):
        return False
    pipeline, worked = config.taken(unit.model), False
    if pipeline is None:
        folder = config.run_folder(unit.model, unit.seed)
        with nullcontext(True) if (folder / TRAINED).is_file() else claim_if_free(folder) as mine:
            if not mine:
                return False
            worked = not (folder / TRAINED).is_file()
            pipeline = train_unit(config, unit, say)
    pipe = None
    for point in config.points(unit.model):
        with claim_if_free(point_path(config, unit, point, ".json")) as mine:
            if not mine or finished(config, unit, point) is not None:
                continue
            pipe = pipe or load_model(config, pipeline)
            report = judge(config, unit, point, pipe)
        say(f"{unit.model}, seed {unit.seed}, {point.name}: FID {report['fid']:.4g}")
        worked = True
    return worked


def load_model(config: StudyConfig, pipeline: str) -> Any:
    """A pipeline on the study's device, in its precision."""
    pipe = load_pipeline(pipeline).to(pick_device(config.device))
    return pipe if config.dtype in ("float32", "tf32") else pipe.to(getattr(torch, config.dtype))


@contextmanager
def matrix_products(config: StudyConfig, device: torch.device) -> Iterator[None]:
    """Within it, float32 products on CUDA are as precise as the study's dtype says."""
    before = torch.get_float32_matmul_precision()
    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if config.dtype == "tf32" else "highest")
    try:
        yield
    finally:
        torch.set_float32_matmul_precision(before)


def train_unit(config: StudyConfig, unit: Unit, say: Say) -> str:
    """Train the model of a unit, or resume it; returns the folder of its pipeline."""
    settings = config.train_config(unit.model, unit.seed, unit.max_steps)
    assert settings is not None
    record_path = Path(settings.out) / TRAINED
    if record_path.is_file():
        record = read_json(record_path)
        if same_training(record["config"], config_to_dict(settings)):
            return record["pipeline"]
        raise InputError(
            f"{settings.out} was trained with other settings; choose another out for the changed study, or remove that "
            "folder to train this model again"
        )
    start, started_at = time.process_time(), latest_step(Path(settings.out))
    result = train(settings, resume=True)
    if result.pipeline is None:
        raise Stopped(f"stopped at step {result.step}; saved {result.checkpoint}")
    seconds = time.process_time() - start
    steps = result.step - started_at
    record = {
        "pipeline": str(result.pipeline),
        "cpu_seconds": seconds * result.step / steps if steps else None,  # of the whole run, if it was trained in parts
        "images": result.step * settings.batch_size,
        "config": config_to_dict(settings),
    }
    write_json(record, record_path)
    say(f"{unit.model}, seed {unit.seed}: trained in {seconds:.0f} CPU seconds")
    return record["pipeline"]


def same_training(one: Any, other: Any) -> bool:
    """Whether two configurations of training, as nested dictionaries, lead to the same model.

    Fields that one of them lacks count as their defaults, so that a finished study outlives new fields. What a
    resumed run may change (`training.resume.FREE`), the number of steps aside, does not count.
    """
    try:
        flat = [flat_config(config_from_dict(TrainConfig, values)) for values in (one, other)]
    except (InputError, TypeError, AttributeError):
        return False  # a field or a value of another version
    return all(is_free(name) and name != "max_steps" for name in differences(*flat))


def latest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run's folder, 0 if there is none."""
    from flowgression.training.checkpoint import checkpoint_steps

    return max(checkpoint_steps(folder / "checkpoints"), default=0)


def judge(config: StudyConfig, unit: Unit, point: Point, pipe: Any) -> dict[str, Any]:
    """Sample one point, compare it with the reference and write the report and a grid of samples."""
    num_classes = pipe.transformer.config.num_classes
    labels = [index % num_classes for index in range(config.num_images)]
    with matrix_products(config, pipe.device):
        images, cost = sample_and_measure(
            pipe,
            labels,
            point.call(),
            model=unit.model,
            seed=config.sampling_seed + unit.seed,
            batch_size=config.batch_size,
        )
    report = evaluate(config.seen_by(unit.model), images, cost)
    report |= {
        "model": unit.model,
        "seed": unit.seed,
        "cell": dict(point.options),
        "parameters": sum(parameter.numel() for parameter in pipe.transformer.parameters()),
        "settings": settings_of(config, unit, point),
    }
    columns = num_classes if num_classes <= GRID_COLUMNS else GRID_COLUMNS
    shown = images.images[: columns * GRID_ROWS]
    save_png(make_grid(shown, columns, scale=2), point_path(config, unit, point, ".png"))
    write_json(report, point_path(config, unit, point, ".json"))
    return report


def evaluate(config: StudyConfig, images: ImageSet, cost: Any = None) -> dict[str, Any]:
    """The flat report of a set of images against the study's reference."""
    reference = reference_statistics(config)
    samples = collect(images, load_features(config), keep=config.keep)
    comparison = compare(samples, reference, num_replicates=config.bootstrap)
    return flat_report(comparison, samples, reference, cost)


def load_features(config: StudyConfig) -> Extractor:
    """The study's feature extractor, on its device."""
    return load_extractor(config.features, device=pick_device(config.device))


def reference_statistics(config: StudyConfig) -> Statistics:
    """The reference of the study: given statistics, or those of images, computed once and kept beside its settings."""
    size = image_size(config)
    settings = json.dumps([config.reference, config.features, size, config.keep])
    path, note = (Path(config.out) / f"{_reference_name(config)}{ending}" for ending in (".safetensors", ".json"))
    with claim(path):
        if path.is_file() and note.is_file() and note.read_text() == settings:
            return load_statistics(path)
        reference = open_reference(config.reference, size)
        if isinstance(reference, Statistics):
            return reference
        statistics = collect(reference, load_features(config), num_groups=1, keep=config.keep)
        if isinstance(reference, NpzImages):
            statistics = with_own_moments(statistics, reference.path)
        save_statistics(statistics, path)
        with atomic_write(note, "w") as file:
            file.write(settings)
        return load_statistics(path)


def _reference_name(config: StudyConfig) -> str:
    """Of the files of the reference; models with references of their own share a study's folder."""
    others = {values["reference"] for values in config.models.values() if "reference" in values}
    return f"reference-{slug(config.reference)}" if config.reference in others else "reference"


def image_size(config: StudyConfig) -> int | None:
    """The size of the reference images."""
    return config.image_size or (config.train.get("data") or {}).get("image_size")


def finished(config: StudyConfig, unit: Unit, point: Point) -> dict[str, Any] | None:
    """The report of a point that was finished with the present settings, else None."""
    path = point_path(config, unit, point, ".json")
    if not path.is_file():
        return None
    report = read_json(path)
    return report if same_settings(report["settings"], settings_of(config, unit, point)) else None


def same_settings(one: dict[str, Any], other: dict[str, Any]) -> bool:
    """Whether two results of `settings_of`, perhaps of different versions, describe the same samples and figures."""
    defaults = {name: field.default for name, field in StudyConfig.__dataclass_fields__.items()}
    if any(one.get(name, defaults.get(name)) != other.get(name, defaults.get(name)) for name in SETTINGS):
        return False
    points = [{name: value for name, value in each["cell"].items() if value is not None} for each in (one, other)]
    trains = one["train"], other["train"]
    return points[0] == points[1] and (trains[0] == trains[1] or same_training(*trains))


SETTINGS = (
    "num_images", "batch_size", "sampling_seed", "reference", "features", "keep", "bootstrap", "dtype", "image_size"
)  # fmt: skip
"""Fields of a study that decide the report of a point, besides the model and the point."""


def settings_of(config: StudyConfig, unit: Unit, point: Point) -> dict[str, Any]:
    """All that decides the report of a point."""
    trained = config.train_config(unit.model, unit.seed, unit.max_steps)
    settings = {
        "train": config.taken(unit.model) if trained is None else config_to_dict(trained),
        "cell": dict(point.options),
        **{name: getattr(config.seen_by(unit.model), name) for name in SETTINGS},
        "image_size": image_size(config),
    }
    return json.loads(json.dumps(settings))  # as it comes back from a file


def point_path(config: StudyConfig, unit: Unit, point: Point, ending: str) -> Path:
    """Where a file of a point lies."""
    return Path(config.out) / "cells" / f"{slug(unit.model)}-seed-{unit.seed}" / f"{point.name}{ending}"


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file whole."""
    with atomic_write(path, "w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
