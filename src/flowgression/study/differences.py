"""Differences of two models that were trained with the same seeds: their mean and its interval."""

from collections.abc import Mapping, Sequence
from math import sqrt
from statistics import fmean, stdev

from flowgression.study.config import StudyConfig
from flowgression.study.results import Results
from flowgression.study.tables import table

BySeed = Mapping[int, float]


def paired(ours: BySeed, theirs: BySeed) -> list[float]:
    """Ours minus theirs, for every seed that both have."""
    return [value - theirs[seed] for seed, value in ours.items() if seed in theirs]


def interval(values: Sequence[float]) -> float:
    """Half the 95 % interval of the mean of normal values, by Student's t; nan for a single one."""
    from scipy.stats import t

    if len(values) < 2:
        return float("nan")
    return float(t.ppf(0.975, len(values) - 1)) * stdev(values) / sqrt(len(values))


def shown(values: Sequence[float], digits: int) -> str:
    """The mean and its interval in brackets, where there are two values or more; nothing of none."""
    if not values:
        return ""
    mean, half = fmean(values), interval(values)
    brackets = f" [{mean - half:+.{digits}f}, {mean + half:+.{digits}f}]" if len(values) > 1 else ""
    return f"{mean:+.{digits}f}{brackets}"


def fid_section(config: StudyConfig, results: Results) -> list[str]:
    """Paragraphs of a report: FID of the models in `compare` minus that of their baselines, in all points of both."""
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in results.rows:
        if row["fid"] is None:
            continue
        found.setdefault((row["model"], row["cell"]), {})[row["seed"]] = row["fid"]
    rows = []
    for model, baseline in config.pairs:
        for point in config.points(model):
            values = paired(*(found.get((each, point.name), {}) for each in (model, baseline)))
            if values:
                rows.append([model, baseline, point.describe(), str(len(values)), shown(values, 2)])
    if not rows:
        return []
    explained = "Paired by seed; brackets are 95 % intervals of the mean (Student's t)."
    return ["## Differences of FID", explained, table(["Model", "minus", "Sampling", "Seeds", "FID"], rows)]
