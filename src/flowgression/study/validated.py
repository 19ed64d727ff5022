"""Validation losses of a study's models as files: made once for each model and seed, and read for the report."""

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from flowgression.data import open_dataset
from flowgression.data.config import DataConfig
from flowgression.documents import read_json
from flowgression.errors import InputError
from flowgression.registry import Family, family_of, find_family
from flowgression.study.claims import claim_if_free
from flowgression.study.config import StudyConfig, slug
from flowgression.study.validation import check_length, measure_losses
from flowgression.study.work import TRAINED, Say, Unit, load_model, same_training, write_json
from flowgression.training.nested import config_from_dict, config_to_dict
from flowgression.training.settings import SequenceConfig

TRAINED_AS, SAMPLING, ALONE = "as trained", "noise falls, one class", "each image alone"
"""What a model reads beside an image: what it read in training; what ARFlow reads; nothing."""
LABEL, NULL = "label", "null label"


def check_validation(config: StudyConfig) -> None:
    """InputError for a trained model whose losses cannot be measured, before anything is trained."""
    if config.validation is None:
        return
    for model in config.models:
        settings = config.train_config(model, config.seeds[0])
        if settings is not None:
            check_family(model, find_family(settings.model.family))
            check_length(config.validation, settings.sequence_length)


def check_family(model: str, family: Family) -> None:
    """InputError for a family that predicts no velocity of whole images."""
    if family.draws_scales:
        raise InputError(f"validation: {model} is a {family.title}, whose losses on scales compare with no other")


def validate_unit(config: StudyConfig, unit: Unit, say: Say = print) -> bool:
    """Measure the losses of a unit whose model is trained, unless that is done or another process is at it.

    Returns:
        Whether anything was done.

    Raises:
        InputError: as `validate`.
    """
    record = config.run_folder(unit.model, unit.seed) / TRAINED
    pipeline = config.taken(unit.model) or (read_json(record)["pipeline"] if record.is_file() else None)
    if config.validation is None or pipeline is None or validated(config, unit) is not None:
        return False
    with claim_if_free(validation_path(config, unit)) as mine:
        if not mine or validated(config, unit) is not None:
            return False
        losses = validate(config, unit, load_model(config, pipeline))
    loss = next(iter(losses[TRAINED_AS].values()))["loss"]
    say(f"{unit.model}, seed {unit.seed}: validation loss {loss:.5f}")
    return True


def validate(config: StudyConfig, unit: Unit, pipe: Any) -> dict[str, Any]:
    """Measure the losses of a trained model and write them.

    Raises:
        InputError: a model that predicts no velocity of whole images.
    """
    assert config.validation is not None
    model, settings = pipe.transformer, config.train_config(unit.model, unit.seed, unit.max_steps)
    family = family_of(model)
    check_family(unit.model, family)
    data = config_from_dict(DataConfig, config.train.get("data") or {}) if settings is None else settings.data
    dataset = open_dataset(replace(data, split=config.validation.split))
    length = (model.config.sequence_length or 1) if family.reads_sequences else 1
    trained = SequenceConfig() if settings is None else settings.sequence
    company = {TRAINED_AS: (length, trained)}
    if length > 1:
        company |= {SAMPLING: (length, SequenceConfig()), ALONE: (1, SequenceConfig())}
    dropped = model.config.class_dropout_prob
    asked = [name for name, wanted in ((LABEL, dropped < 1), (NULL, dropped > 0)) if wanted]
    model.eval()
    losses = {
        mode: {
            name: measure_losses(model, dataset, config.validation, *company[mode], null_label=name == NULL).summary(
                config.validation.num_bins
            )
            for name in asked
        }
        for mode in company
    }
    record = {"settings": _settings(config, unit), "losses": losses}
    write_json(record, validation_path(config, unit))
    return losses


def validated(config: StudyConfig, unit: Unit) -> dict[str, Any] | None:
    """{what it reads: {label or null label: {loss, by_time, by_place}}}, measured so before, or None."""
    path = validation_path(config, unit)
    if config.validation is None or not path.is_file():
        return None
    record, wanted = read_json(path), _settings(config, unit)
    if record["settings"]["validation"] != wanted["validation"]:
        return None
    trains = record["settings"]["train"], wanted["train"]
    return record["losses"] if trains[0] == trains[1] or same_training(*trains) else None


def validation_path(config: StudyConfig, unit: Unit) -> Path:
    """Where the losses of a model with a seed lie."""
    return Path(config.out) / "cells" / f"{slug(unit.model)}-seed-{unit.seed}" / "validation.json"


def _settings(config: StudyConfig, unit: Unit) -> dict[str, Any]:
    assert config.validation is not None
    trained = config.train_config(unit.model, unit.seed, unit.max_steps)
    train = config.taken(unit.model) if trained is None else config_to_dict(trained)
    return json.loads(
        json.dumps({"validation": asdict(config.validation), "train": train})
    )  # as it comes back from a file
