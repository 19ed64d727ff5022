"""`flowgression models` agrees with what is built in, with the published sizes and with the recorded figures."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgression import load_pipeline
from flowgression.autoencoders.presets import builtin_autoencoders
from flowgression.cli.main import main
from flowgression.cli.models import autoencoders, built_in, released
from flowgression.models import FAMILIES, build_model, load_autoencoder
from flowgression.sampling import builtin_models

DOCS = Path(__file__).parents[2] / "docs"


def test_every_built_in_model_is_listed_with_its_family_and_size() -> None:
    rows = {row["name"]: row for row in built_in()}
    assert rows.keys() == builtin_models().keys()
    for name, folder in builtin_models().items():
        config = json.loads((folder / "transformer" / "config.json").read_text())
        assert rows[name]["title"] == config["_class_name"]
        parameters = load_pipeline(name).transformer.parameters()
        assert rows[name]["parameters"] == sum(parameter.numel() for parameter in parameters)


def test_figures_of_built_in_models_are_those_of_the_log() -> None:
    table = re.search(
        r"## .*: the built-in models by one measure\n(.*?)\n## ", (DOCS / "log" / "digits.md").read_text(), re.DOTALL
    )
    assert table is not None
    recorded = dict(re.findall(r"^\| ([\w-]+-mnist[\w-]*) \| ([\d.]+) ", table[1], re.MULTILINE))
    assert recorded == {row["name"]: f"{row['fid']:.3f}" for row in built_in() if row["fid"] is not None}


def test_every_built_in_autoencoder_is_listed_with_its_size_and_the_psnr_of_its_page() -> None:
    rows = {row["name"]: row for row in autoencoders()}
    assert rows.keys() == builtin_autoencoders().keys()
    page = (DOCS / "your-pictures.md").read_text()
    for name, folder in builtin_autoencoders().items():
        network: Any = load_autoencoder(name)
        row, weights = rows[name], network.vae.parameters()
        assert row["parameters"] == sum(parameter.numel() for parameter in weights)
        assert (row["downsampling"], row["latent_channels"]) == (network.downsampling, network.latent_channels)
        assert sum(file.stat().st_size for file in folder.iterdir()) < 5e6
        assert re.search(rf"^\| 128 x 128 \| 8 x 16 x 16 \| {row['psnr']} \[", page, re.MULTILINE)


@pytest.mark.parametrize("row", list(released()), ids=lambda row: row["name"])
def test_released_models_are_sizes_that_convert_reads(row: dict) -> None:
    assert FAMILIES[row["family"]].converter is not None
    with torch.device("meta"):
        model = build_model(row["family"], row["preset"], **row["args"])
    assert row["parameters"] == sum(parameter.numel() for parameter in model.parameters())
    assert re.fullmatch(r"[\w-]+/[\w.-]+", row["hub"])
    assert row["source"].startswith("https://github.com/")
    assert f"{row['fid']:.2f}" in (DOCS / "papers.md").read_text()


def test_the_tables_and_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["models"]) == 0
    printed = capsys.readouterr().out
    assert main(["models", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    for row in [*found["built_in"], *found["autoencoders"], *found["released"]]:
        assert row["name"] in printed
        assert row.get("hub", "") in printed  # whole, in a terminal of 80 columns
        assert row["command"].startswith("flowgression ")
    assert main(["models", "--jsn"]) == 2
    assert "--json" in capsys.readouterr().err
