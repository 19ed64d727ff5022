"""Intervals and verdicts of docs/results.md, from the data in docs/data alone.

    python benchmarks/verdicts.py [FILE ...]

Each difference of two models gets its 95 % interval, as it is and corrected for the comparisons of its study
(Bonferroni), and a verdict by the rule of docs/results.md. Values by seed are paired; where only means and standard
deviations were kept, the interval is Welch's; a published interval is widened to the corrected level.
"""

import json
import sys
from collections.abc import Iterator
from math import sqrt
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from scipy.stats import t

DATA = Path(__file__).parents[1] / "docs" / "data"
LEVEL = 0.05
ENOUGH = 5  # seeds


class Difference(NamedTuple):
    """Ours minus theirs: its standard error, degrees of freedom, seeds, and whether it is paired by seed."""

    mean: float
    error: float
    freedom: float
    seeds: int
    paired: bool

    def interval(self, comparisons: int = 1) -> tuple[float, float]:
        """The 95 % interval by Student's t, corrected for so many comparisons."""
        half = float(t.ppf(1 - LEVEL / comparisons / 2, self.freedom)) * self.error
        return self.mean - half, self.mean + half


def difference(entry: dict[str, Any], models: dict[str, Any]) -> Difference:
    """What the file says of one pair of models."""
    if "mean" in entry:
        seeds = entry["seeds"]
        error = (entry["high"] - entry["low"]) / 2 / float(t.ppf(1 - LEVEL / 2, seeds - 1))
        return Difference((entry["low"] + entry["high"]) / 2, error, seeds - 1, seeds, True)
    ours, theirs = models[entry["ours"]], models[entry["theirs"]]
    if "values" in ours and "values" in theirs:
        values = [value - theirs["values"][seed] for seed, value in ours["values"].items() if seed in theirs["values"]]
        return Difference(fmean(values), stdev(values) / sqrt(len(values)), len(values) - 1, len(values), True)
    parts = [each["sd"] ** 2 / each["seeds"] for each in (ours, theirs)]
    freedom = sum(parts) ** 2 / sum(
        part**2 / (each["seeds"] - 1) for part, each in zip(parts, (ours, theirs), strict=True)
    )
    seeds = min(ours["seeds"], theirs["seeds"])
    return Difference(ours["mean"] - theirs["mean"], sqrt(sum(parts)), freedom, seeds, False)


def verdict(found: Difference, study: dict[str, Any]) -> str:
    """The rule of docs/results.md."""
    low, high = found.interval(study["comparisons"])
    if study.get("seeds_of") == "noise":
        return "measured: one trained model"
    if found.seeds < ENOUGH or not found.paired:
        return f"not enough evidence: {found.seeds} seeds"
    if not study["settings_fixed_before"]:
        return "not enough evidence: settings not fixed before"
    if study.get("real") is None:
        return "not enough evidence: no row of real images"
    if low <= 0 <= high:
        return "not enough evidence: zero is in the interval"
    return "shown here" if (high < 0) == (study["better"] == "lower") else "contradicted here"


def rows(path: Path) -> Iterator[list[str]]:
    """A row of the table for each difference of a study."""
    study = json.loads(path.read_text(encoding="utf-8"))
    for entry in study["differences"]:
        found, comparisons = difference(entry, study["models"]), study["comparisons"]
        mean = entry.get("mean", found.mean)
        digits = 2 if study["measure"].startswith("FID") else 4
        plain, corrected = (_brackets(found.interval(number), digits) for number in (1, comparisons))
        yield [
            f"[{path.stem}](data/{path.name})",
            f"{entry['ours']} minus {entry['theirs']}",
            f"{mean:+.{digits}f} {plain}",
            f"{corrected} ({comparisons})",
            verdict(found, study),
        ]


def _brackets(interval: tuple[float, float], digits: int) -> str:
    return "[{:.{d}f}, {:.{d}f}]".format(*interval, d=digits)


def table(paths: list[Path]) -> list[str]:
    """The lines of the table."""
    lines = [
        "| study | difference | mean, 95 % interval | corrected (comparisons) | verdict |",
        "|---|---|---|---|---|",
    ]
    return [*lines, *(f"| {' | '.join(row)} |" for path in paths for row in rows(path))]


def main() -> None:
    paths = [Path(name) for name in sys.argv[1:]] or sorted(DATA.glob("*.json"))
    print("\n".join(table(paths)))


if __name__ == "__main__":
    main()
