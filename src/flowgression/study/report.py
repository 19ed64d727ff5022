"""The report of a study: report.md with tables and pictures, results.csv with a line for each point and seed."""

import csv
import io
import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from statistics import fmean
from typing import Any

import yaml

from flowgression.evaluation.comparison import SFID
from flowgression.evaluation.report import versions
from flowgression.files import atomic_write
from flowgression.study.config import StudyConfig, slug
from flowgression.study.data import write_data
from flowgression.study.differences import fid_section
from flowgression.study.plots import save_plots
from flowgression.study.recount import recount
from flowgression.study.results import COLUMNS, Results, Summary, read_real, read_results
from flowgression.study.tables import table
from flowgression.study.validation_report import validation_section
from flowgression.study.work import Unit, point_path
from flowgression.text import markdown
from flowgression.training.nested import merged
from flowgression.training.settings import ModelConfig

HEADINGS = {
    "fid": "FID", SFID: "sFID", "kid": "KID", "precision": "Precision", "recall": "Recall",
    "inception_score": "Inception Score",
}  # fmt: skip
"""Of the metrics in tables; sFID is shown where the features have it."""


def write_report(config: StudyConfig, steps: dict[str, int] | None = None) -> Path:
    """Write report.md, results.csv, data.json, the plots and sample grids from what is finished; returns report.md.

    FLOPs that another version of the counter left in the results are counted again first.
    """
    out = Path(config.out)
    recount(config, steps or {})
    results = read_results(config, steps or {})
    with atomic_write(out / "results.csv", "w") as file:
        file.write(as_csv(results))
    write_data(config, results)
    plots = save_plots(config, results, out) if results.rows else []
    parts = [
        f"# {markdown(config.title)}",
        _introduction(config, results),
        "## Models",
        _models_table(config, results),
        f"## {markdown(config.main_point.describe())}",
        _main_table(config, results),
        "## Best FID of each model over the grid",
        _best_table(config, results),
        *fid_section(config, results),
        *validation_section(config, steps or {}),
        *(["## Published figures", _targets_table(config, results)] if config.targets else []),
        *(f"![{title}]({name})" for title, name in plots),
        "## Samples",
        *_samples(config, results),
        "## All points of the grid",
        _all_table(config, results),
    ]
    with atomic_write(out / "report.md", "w") as file:
        file.write("\n\n".join(parts) + "\n")
    with atomic_write(out / "study.yaml", "w") as file:
        yaml.safe_dump(_plain(config), file, sort_keys=False)
    return out / "report.md"


def _plain(config: StudyConfig) -> dict[str, Any]:
    """The study as YAML holds it."""
    return json.loads(json.dumps({**asdict(config), "grids": [grid.facts() for grid in config.grids]}))


def as_csv(results: Results) -> str:
    """A line for each point and seed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: row[name] for name in COLUMNS} for row in results.rows)
    return text.getvalue()


def _introduction(config: StudyConfig, results: Results) -> str:
    found = versions()
    sentences = [
        f"{len(config.models)} models, seeds {', '.join(map(str, config.seeds))}; equal {' and '.join(config.equal)}."
        if config.equal
        else f"{len(config.models)} models, seeds {', '.join(map(str, config.seeds))}.",
        f"{config.num_images} samples for each point and seed against {markdown(config.reference)}, features "
        f"{markdown(config.features)}; "
        "the same noise for all models.",
        "Numbers are means over the seeds; ± is their standard deviation.",
        f"{config.num_threads} CPU threads a process, {config.jobs} at a time. torch {found['torch']}, flowgression "
        f"{found['flowgression']}.",
    ]
    if results.missing:
        sentences.append(f"**Unfinished: {results.missing} points are still open.**")
    return " ".join(sentences) + "\n\nThe whole configuration is in study.yaml; every number is in results.csv."


def _models_table(config: StudyConfig, results: Results) -> str:
    head = ["Model", "Parameters", "Settings", "Images seen", "Training, CPU seconds"]
    rows = []
    for model in config.models:
        parameters = next((row["parameters"] for row in results.rows if row["model"] == model), None)
        records = [record for (name, _), record in results.training.items() if name == model]
        seconds = [record["cpu_seconds"] for record in records if record["cpu_seconds"]]
        rows.append([
            model,
            "" if parameters is None else f"{parameters:,}",
            _settings(config, model),
            f"{records[0]['images']:,}" if records else "",
            f"{fmean(seconds):.0f}" if seconds else "",
        ])  # fmt: skip
    return table(head, rows)


def _settings(config: StudyConfig, model: str) -> str:
    if config.taken(model):
        return f"{config.taken(model)}, as it is"
    values = merged(config.train, config.models[model])
    section = values.get("model") or {}
    args = {**(section.get("args") or {})}
    shown = [str(section.get("family", ModelConfig.family)), *(f"{name} {value}" for name, value in args.items())]
    return f"S = {values.get('sequence_length', 5)}; " + ", ".join(shown)


def _main_table(config: StudyConfig, results: Results) -> str:
    return _table_of(config, [found for model in config.models if (found := results.at(model, config.main_point))])


def _best_table(config: StudyConfig, results: Results) -> str:
    best = []
    for model in config.models:
        points = [one for one in results.of(model) if "fid" in one.mean]
        if points:
            best.append(min(points, key=lambda one: one.mean["fid"]))
    return _table_of(config, best, with_point=True)


def _all_table(config: StudyConfig, results: Results) -> str:
    return _table_of(config, results.summaries, with_point=True, with_real=False)


def _targets_table(config: StudyConfig, results: Results) -> str:
    """Every published figure beside the best of our points with the same guidance scale."""
    rows = []
    for target in config.targets:
        same = [one for one in results.of(target.model) if one.point["guidance_scale"] == target.guidance_scale]
        ours = min((one for one in same if "fid" in one.mean), key=lambda one: one.mean["fid"], default=None)
        found = ["not run", ""] if ours is None else [_shown(ours, "fid"), ours.point.describe()]
        rows.append([target.model, f"{target.guidance_scale:g}", f"{target.fid:g}", *found, target.source])
    return table(
        ["Model", "Guidance", "Published FID", "FID here", "Sampling here", "Source of the published figure"], rows
    )


def _table_of(
    config: StudyConfig, summaries: Sequence[Summary], *, with_point: bool = False, with_real: bool = True
) -> str:
    names = [name for name in HEADINGS if name != SFID or any(SFID in one.mean for one in summaries)]
    head = ["Model", *(["Sampling"] if with_point else []), "Seeds", *(HEADINGS[name] for name in names)]
    head += ["NFE", "MFLOP an image", "Images/s"]
    rows = []
    for one in summaries:
        cost = [f"{one.mean['cost_network_calls']:.0f}", f"{one.mean['cost_flops_per_image'] / 1e6:.3g}"]
        cost.append(f"{one.mean['cost_images_per_second']:.1f}")
        point = [one.point.describe()] if with_point else []
        rows.append([one.model, *point, str(one.seeds), *(_shown(one, name) for name in names), *cost])
    real = read_real(config) if with_real else None
    if real is not None:
        numbers = ["-" if real.get(name) is None else f"{real[name]:.3g}" for name in names]
        name = f"real: {real['samples']} ({real['num_samples']} images)"
        rows.append([name, *([""] if with_point else []), "", *numbers, "", "", ""])
    return table(head, rows)


def _shown(one: Summary, name: str) -> str:
    if name not in one.mean:
        return "-"
    mean = f"{one.mean[name]:.3g}"
    return mean if one.seeds == 1 else f"{mean} ± {one.spread[name]:.2g}"


def _samples(config: StudyConfig, results: Results) -> list[str]:
    """One grid for each model: the first seed in the main point."""
    lines = []
    for model in config.models:
        path = point_path(config, Unit(model, config.seeds[0]), config.main_point, ".png")
        if path.is_file():
            lines.append(f"{markdown(model)}, {markdown(config.main_point.describe())}, seed {config.seeds[0]}:")
            lines.append(f"![{slug(model)}]({path.relative_to(config.out)})")
    return lines
