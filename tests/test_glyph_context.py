"""The experiments with letters of fonts: published tables follow from the published results of each seed."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest

from tests.scripts import load_script

ROOT = Path(__file__).parents[1]
LOG = ROOT / "docs" / "log"


@pytest.fixture
def tables(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("benchmarks/glyph_context_tables.py", monkeypatch)


@pytest.mark.parametrize("path", sorted(LOG.glob("glyph-*.json")), ids=lambda path: path.stem)
def test_the_published_tables_follow_from_the_published_results(path: Path, tables: ModuleType) -> None:
    page = path.with_suffix(".md").read_text().splitlines()
    for line in tables.tables(json.loads(path.read_text())).splitlines():
        assert line in page


def results(differences: Any) -> dict[str, Any]:
    """The experiment "chunks" with these differences, linear minus hybrid: [seeds, fonts]."""

    def arm(distances: Any) -> dict[str, Any]:
        judged = {"identified": [0], "legible": [0]}
        return {
            str(seed): {"500": {shown: {"distance": list(row), **judged} for shown in ("0", "4")}}
            for seed, row in enumerate(distances)
        }

    hybrid = np.full_like(differences, 0.2)
    return {
        "experiment": "chunks",
        "rates": {},
        "fonts": differences.shape[1],
        "drawn": 6,
        "letters": {"legible": [6]},
        "runs": {"hybrid, 16 tokens": arm(hybrid), "linear, 16 tokens": arm(hybrid + differences)},
    }


@pytest.mark.parametrize(
    ("seeds", "shift", "noise_of_seeds", "noise_of_fonts", "verdict"),
    [
        (5, 0.05, 0.001, 0.001, "farther"),
        (5, -0.05, 0.001, 0.001, "nearer"),
        (4, 0.05, 0.001, 0.001, "not enough evidence"),  # too few seeds, however clear
        (5, 0.05, 0.2, 0.001, "not enough evidence"),  # clear over fonts alone
        (5, 0.05, 0.001, 2.0, "not enough evidence"),  # clear over seeds alone
    ],
)
def test_a_verdict_needs_seeds_and_both_intervals(
    seeds: int, shift: float, noise_of_seeds: float, noise_of_fonts: float, verdict: str, tables: ModuleType
) -> None:
    random = np.random.default_rng(0)
    over_seeds = noise_of_seeds * random.standard_normal((seeds, 1))
    over_fonts = noise_of_fonts * random.standard_normal((1, 40))
    centred = over_seeds - over_seeds.mean() + over_fonts - over_fonts.mean()
    lines = tables.tables(results(shift + centred)).splitlines()
    row = next(line for line in lines if "four examples: linear - hybrid" in line)
    assert row.endswith(f"| {verdict} |")
