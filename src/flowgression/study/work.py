"""The work of a study: one model with one seed is trained, then sampled and judged cell by cell.

Everything finished is a file written whole, with the settings that led to it, so that a study killed anywhere resumes
where it was and a changed study repeats only what the change touches.
"""

import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from flowgression.errors import InputError
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import ImageSet, open_image_set
from flowgression.evaluation.model import sample_and_measure
from flowgression.evaluation.report import flat_report
from flowgression.evaluation.statistics import Statistics, collect
from flowgression.evaluation.storage import load_statistics, save_statistics
from flowgression.files import atomic_write
from flowgression.sampling.images import make_grid, save_png
from flowgression.sampling.loading import load_pipeline
from flowgression.study.config import Cell, StudyConfig, slug
from flowgression.training.config import config_to_dict
from flowgression.training.loop import train

Say = Callable[[str], None]
GRID_ROWS = 8


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


def do_unit(config: StudyConfig, unit: Unit, say: Say = print) -> None:
    """Train and judge; what is finished is left as it is.

    Raises:
        InputError: a run or a model that does not fit the study's settings.
        Stopped: by a signal while training.
    """
    torch.set_num_threads(config.num_threads)
    pipeline = config.taken(unit.model) or train_unit(config, unit, say)
    open_cells = [cell for cell in config.cells(unit.model) if finished(config, unit, cell) is None]
    if not open_cells:
        return
    pipe = load_pipeline(pipeline)
    for cell in open_cells:
        report = judge(config, unit, cell, pipe)
        say(f"{unit.model}, seed {unit.seed}, {cell.name}: FID {report['fid']:.4g}")


def train_unit(config: StudyConfig, unit: Unit, say: Say) -> str:
    """Train the model of a unit, or resume it; returns the folder of its pipeline."""
    settings = config.train_config(unit.model, unit.seed, unit.max_steps)
    assert settings is not None
    record_path = Path(settings.out) / "trained.json"
    wanted = json.loads(json.dumps(config_to_dict(settings)))
    if record_path.is_file():
        record = json.loads(record_path.read_text())
        if record["config"] == wanted:
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
        "config": wanted,
    }
    write_json(record, record_path)
    say(f"{unit.model}, seed {unit.seed}: trained in {seconds:.0f} CPU seconds")
    return record["pipeline"]


def latest_step(folder: Path) -> int:
    """The step of the newest checkpoint in a run's folder, 0 if there is none."""
    from flowgression.training.checkpoint import checkpoint_steps

    return max(checkpoint_steps(folder / "checkpoints"), default=0)


def judge(config: StudyConfig, unit: Unit, cell: Cell, pipe: Any) -> dict[str, Any]:
    """Sample one cell, compare it with the reference and write the report and a grid of samples."""
    num_classes = pipe.transformer.config.num_classes
    labels = [index % num_classes for index in range(config.num_images)]
    images, cost = sample_and_measure(
        pipe,
        labels,
        asdict(cell),
        model=unit.model,
        seed=config.sampling_seed + unit.seed,
        batch_size=config.batch_size,
    )
    report = evaluate(config, images, cost)
    report |= {
        "model": unit.model,
        "seed": unit.seed,
        "cell": asdict(cell),
        "parameters": sum(parameter.numel() for parameter in pipe.transformer.parameters()),
        "settings": settings_of(config, unit, cell),
    }
    shown = images.images[: num_classes * GRID_ROWS]
    save_png(make_grid(shown, num_classes, scale=2), cell_path(config, unit, cell, ".png"))
    write_json(report, cell_path(config, unit, cell, ".json"))
    return report


def evaluate(config: StudyConfig, images: ImageSet, cost: Any = None) -> dict[str, Any]:
    """The flat report of a set of images against the study's reference."""
    reference = reference_statistics(config)
    samples = collect(images, load_extractor(config.features), keep=config.keep)
    comparison = compare(samples, reference, num_replicates=config.bootstrap)
    return flat_report(comparison, samples, reference, cost)


def reference_statistics(config: StudyConfig) -> Statistics:
    """The reference of the study, computed once and kept beside its settings."""
    size = image_size(config)
    settings = json.dumps([config.reference, config.features, size, config.keep])
    path, note = Path(config.out) / "reference.safetensors", Path(config.out) / "reference.json"
    if path.is_file() and note.is_file() and note.read_text() == settings:
        return load_statistics(path)
    images = open_image_set(config.reference, size)
    statistics = collect(images, load_extractor(config.features), num_groups=1, keep=config.keep)
    save_statistics(statistics, path)
    with atomic_write(note, "w") as file:
        file.write(settings)
    return load_statistics(path)


def image_size(config: StudyConfig) -> int | None:
    """The size of the reference images."""
    return config.image_size or (config.train.get("data") or {}).get("image_size")


def finished(config: StudyConfig, unit: Unit, cell: Cell) -> dict[str, Any] | None:
    """The report of a cell that was finished with the present settings, else None."""
    path = cell_path(config, unit, cell, ".json")
    if not path.is_file():
        return None
    report = json.loads(path.read_text())
    return report if report["settings"] == settings_of(config, unit, cell) else None


def settings_of(config: StudyConfig, unit: Unit, cell: Cell) -> dict[str, Any]:
    """All that decides the report of a cell."""
    trained = config.train_config(unit.model, unit.seed, unit.max_steps)
    names = ("num_images", "batch_size", "sampling_seed", "reference", "features", "keep", "bootstrap")
    settings = {
        "train": config.taken(unit.model) if trained is None else config_to_dict(trained),
        "cell": asdict(cell),
        "image_size": image_size(config),
        **{name: getattr(config, name) for name in names},
    }
    return json.loads(json.dumps(settings))  # as it comes back from a file


def cell_path(config: StudyConfig, unit: Unit, cell: Cell, ending: str) -> Path:
    """Where a file of a cell lies."""
    return Path(config.out) / "cells" / f"{slug(unit.model)}-seed-{unit.seed}" / f"{cell.name}{ending}"


def write_json(content: dict[str, Any], path: Path) -> None:
    """Write a JSON file whole."""
    with atomic_write(path, "w") as file:
        file.write(json.dumps(content, indent=1) + "\n")
