"""A family of our own invention, in a folder outside of the package, does all that every family does."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgression import InputError, load_pipeline
from flowgression.circuits.frontend import read_model
from flowgression.export import export_model
from flowgression.models import FAMILIES
from flowgression.web.models import describe
from tests.families import test_families as shared
from tests.families.cases import FamilyCase
from tests.families.invented import FAMILY
from tests.families.test_families import run

__all__ = ["run"]
CASE = FamilyCase("drift", {"hidden_size": 32})


@pytest.fixture(autouse=True)
def entry(monkeypatch: pytest.MonkeyPatch) -> None:
    """The one edit outside of its folder: its entry."""
    monkeypatch.setitem(FAMILIES, FAMILY.name, FAMILY)


def test_it_is_described_saved_and_loaded(tmp_path: Path) -> None:
    shared.test_its_description_fits_its_classes(CASE)
    shared.test_saved_and_loaded(CASE, tmp_path)
    shared.test_guidance_needs_a_null_label(CASE)
    shared.test_sampler_options(CASE)


def test_an_image_does_not_depend_on_its_batch() -> None:
    shared.test_an_image_does_not_depend_on_its_batch(CASE)


def test_it_trains_and_resumes(run: Callable[..., Any]) -> None:
    shared.test_training_lowers_the_loss(CASE)
    shared.test_a_run_that_is_stopped_and_resumed_is_the_unbroken_one(CASE, run)
    shared.test_its_sequences_are_its_familys(CASE, run)


def test_it_is_planned_and_counted(run: Callable[..., Any]) -> None:
    shared.test_a_plan_of_its_run(CASE, run)
    shared.test_what_sampling_costs(CASE)


def test_its_commands(command: Callable[..., Any], tmp_path: Path) -> None:
    options = "--model.family drift --data.path mnist --data.split test --data.num_workers 0 --batch_size 8"
    steps = "--max_steps 2 --checkpoint_every 2 --preview.every 0 --device cpu --tracker none"
    trained = command("train", *options.split(), *steps.split(), "--out", tmp_path / "run")
    assert trained.status == 0, trained.err
    sampled = command("sample", "--model", tmp_path / "run", "--class-labels", "3", "--out", tmp_path / "image.png")
    assert sampled.status == 0, sampled.err
    assert (tmp_path / "image.png").is_file()
    assert "drift" in command("info", "drift:S").out.lower()
    planned = command("plan", "--config", tmp_path / "run" / "config.yaml", "--gpu", "h100")
    assert planned.status == 0, planned.err


def test_it_is_exported_and_served(tmp_path: Path) -> None:
    pipe = shared.pipeline(CASE)
    pipe.save_pretrained(tmp_path / "model")
    export_model(str(tmp_path / "model"), tmp_path / "out", file_format="torch")
    assert json.loads((tmp_path / "out" / "manifest.json").read_text())["family"] == "drift"
    assert describe("mine", load_pipeline(tmp_path / "model"))["family"] == "drift"


def test_it_need_not_compile() -> None:
    with pytest.raises(InputError, match="a Drift has no circuit; circuits are compiled from ARFlow, SiT"):
        read_model(CASE.model(), 2)


def test_without_its_entry_it_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delitem(FAMILIES, FAMILY.name)
    with pytest.raises(InputError, match="model family 'drift' is unknown"), torch.device("meta"):
        CASE.model()
