"""The part of a study's report about validation losses: tables, a plot, validation.csv."""

import csv
import io
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from flowgression.files import atomic_write
from flowgression.study.config import StudyConfig
from flowgression.study.differences import BySeed, interval, paired, shown
from flowgression.study.tables import table
from flowgression.study.validated import ALONE, LABEL, NULL, SAMPLING, TRAINED_AS, validated
from flowgression.study.work import Unit, units
from flowgression.text import markdown, without_formulas

Found = dict[str, dict[int, dict[str, Any]]]
"""Losses of each model by the seeds that are done."""


def validation_section(config: StudyConfig, steps: dict[str, int]) -> list[str]:
    """Paragraphs for the report; writes validation.csv and the plot. Nothing if the study asks for no losses."""
    if config.validation is None:
        return []
    done = [(unit, losses) for unit in units(config, steps) if (losses := validated(config, unit)) is not None]
    if not done:
        return []
    found: Found = {}
    for unit, losses in done:
        found.setdefault(unit.model, {})[unit.seed] = losses
    out = Path(config.out)
    with atomic_write(out / "validation.csv", "w") as file:
        file.write(_as_csv(done))
    parts = ["## Validation loss", _introduction(config), _main_table(config, found)]
    parts += ["By time, as trained:", _bins_table(config, found, "by_time", _times(config))]
    longest = max(_length(losses, "by_place") for losses in found.values())
    if longest > 1:
        places = [f"place {index + 1}" for index in range(longest)]
        parts += ["By place in the sequence, as trained:", _bins_table(config, found, "by_place", places)]
    if pairs := _pairs(config, found):
        _draw(config, found, pairs, out / "validation-time.png")
        parts.append("![Difference of validation loss by time](validation-time.png)")
    return parts


def main_label(losses: dict[str, Any]) -> str:
    """Which loss stands for a model: with the label, unless it never saw one."""
    return LABEL if LABEL in losses[TRAINED_AS] else NULL


def differences(found: Found, model: str, baseline: str, *where: Any) -> list[float]:
    """Loss of `model` minus that of `baseline`, seed by seed; `where` leads from main losses to the number."""
    return paired(*(_numbers(found[name], *where) for name in (model, baseline)))


def _numbers(
    losses: dict[int, dict[str, Any]], *where: Any, mode: str = TRAINED_AS, label: str | None = None
) -> dict[int, float]:
    numbers = {}
    for seed, one in losses.items():
        value = one.get(mode, {}).get(label or main_label(one))
        for step in where:
            value = None if value is None or (isinstance(step, int) and step >= len(value)) else value[step]
        if value is not None:
            numbers[seed] = value
    return numbers


def _length(losses: dict[int, dict[str, Any]], name: str) -> int:
    """Into how many parts a model's losses are cut."""
    first = next(iter(losses.values()))
    return len(first[TRAINED_AS][main_label(first)][name])


def _introduction(config: StudyConfig) -> str:
    asked = config.validation
    assert asked is not None
    return (
        f"Mean squared error of the velocity on {asked.num_images} held-out images (split {markdown(asked.split)}), "
        "the same images, times and noise for all models and seeds; only what a model reads beside an image differs. "
        "With the label; models that never saw one are asked with the null label. Differences are paired by seed; "
        "brackets are 95 % intervals of their mean (Student's t)."
    )


def _main_table(config: StudyConfig, found: Found) -> str:
    head = ["Model", "Seeds", "Loss as trained", "minus its baseline", SAMPLING, ALONE, "null label, as trained"]
    rows, pairs = [], _pairs(config, found)
    for model, losses in found.items():
        compared = [
            f"{shown(differences(found, model, baseline, 'loss'), 5)} to {baseline}"
            for each, baseline in pairs
            if each == model
        ]
        rows.append([
            model,
            str(len(losses)),
            _mean(_numbers(losses, "loss")),
            "; ".join(compared),
            _mean(_numbers(losses, "loss", mode=SAMPLING)),
            _mean(_numbers(losses, "loss", mode=ALONE)),
            _mean(_numbers(losses, "loss", label=NULL)),
        ])  # fmt: skip
    return table(head, rows)


def _bins_table(config: StudyConfig, found: Found, name: str, titles: Sequence[str]) -> str:
    rows = [[model, *(_mean(_numbers(losses, name, i)) for i in range(len(titles)))] for model, losses in found.items()]
    for model, baseline in _pairs(config, found):
        if _length(found[model], name) != _length(found[baseline], name):
            continue  # places in sequences of different lengths do not compare
        parts = [differences(found, model, baseline, name, index) for index in range(len(titles))]
        rows.append([f"{model} minus {baseline}", *(shown(values, 5) for values in parts)])
    return table(["Model", *titles], rows)


def _times(config: StudyConfig) -> list[str]:
    assert config.validation is not None
    bins = config.validation.num_bins
    return [f"t {index / bins:.2g} to {(index + 1) / bins:.2g}" for index in range(bins)]


def _pairs(config: StudyConfig, found: Found) -> list[tuple[str, str]]:
    return [
        (model, baseline)
        for model, baseline in config.pairs
        if model in found and baseline in found and differences(found, model, baseline, "loss")
    ]


def _mean(by_seed: BySeed) -> str:
    values = list(by_seed.values())
    if not values:
        return ""
    return f"{fmean(values):.5f}" if len(values) == 1 else f"{fmean(values):.5f} ± {stdev(values):.5f}"


def _as_csv(done: list[tuple[Unit, dict[str, Any]]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["model", "seed", "reads", "label", "of", "index", "loss"])
    for unit, losses in done:
        for mode, by_label in losses.items():
            for label, numbers in by_label.items():
                writer.writerow([unit.model, unit.seed, mode, label, "all", "", numbers["loss"]])
                for name in ("by_time", "by_place"):
                    for index, value in enumerate(numbers[name]):
                        writer.writerow([unit.model, unit.seed, mode, label, name.removeprefix("by_"), index, value])
    return text.getvalue()


def _draw(config: StudyConfig, found: Found, pairs: list[tuple[str, str]], path: Path) -> None:
    from matplotlib import colormaps
    from matplotlib.figure import Figure

    assert config.validation is not None
    bins = config.validation.num_bins
    centres = [(index + 0.5) / bins for index in range(bins)]
    figure = Figure(figsize=(8.5, 4.6), layout="constrained")
    panel = figure.subplots()
    for number, (model, baseline) in enumerate(pairs):
        columns = [differences(found, model, baseline, "by_time", index) for index in range(bins)]
        shift = (number - (len(pairs) - 1) / 2) * 0.1 / bins  # so that bars do not hide each other
        panel.errorbar(
            [centre + shift for centre in centres],
            [fmean(values) for values in columns],
            yerr=[interval(values) for values in columns] if len(config.seeds) > 1 else None,
            marker="o", markersize=4, capsize=3, color=colormaps["tab20"](number % 20),
            label=without_formulas(f"{model} minus {baseline}"),
        )  # fmt: skip
    panel.axhline(0, color="0.5", linewidth=1)
    panel.set(xlabel="t (0 noise, 1 data)", ylabel="difference of validation loss", xlim=(0, 1))
    panel.grid(alpha=0.3)
    panel.legend(fontsize=7)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
