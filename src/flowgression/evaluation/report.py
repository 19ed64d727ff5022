"""The result of an evaluation: flat JSON, a table for the terminal, a picture."""

import json
import platform
from collections.abc import Mapping
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import torch

import flowgression
from flowgression.evaluation.comparison import SFID, Comparison
from flowgression.evaluation.cost import Cost
from flowgression.evaluation.statistics import Statistics
from flowgression.files import atomic_write
from flowgression.sampling.options import describe

LABELS = {
    "fid": "FID", "kid": "KID", "inception_score": "Inception Score", "precision": "precision", "recall": "recall",
    SFID: "sFID",
}  # fmt: skip


def flat_report(
    comparison: Comparison, samples: Statistics, reference: Statistics, cost: Cost | None = None, **facts: Any
) -> dict[str, Any]:
    """The whole report on one level, as it is written to JSON.

    `fid`, `kid`, `inception_score`, `precision`, `recall` are numbers or null, and so is `sfid` where the extractor has
    spatial features; `<metric>_interval` is [low, high] or
    null; `<metric>_reason` says why a metric is null. `fid_per_class` and `notes` are the only nested values besides
    the records of how each set was made.
    """
    report: dict[str, Any] = {}
    for name, estimate in comparison.estimates.items():
        report[name] = estimate.value
        report[f"{name}_interval"] = None if estimate.interval is None else list(estimate.interval)
        if estimate.value is None:
            report[f"{name}_reason"] = estimate.reason
    report["fid_per_class"] = comparison.per_class or None
    report["features"] = None if samples.extractor is None else asdict(samples.extractor)
    for name, one in (("samples", samples), ("reference", reference)):
        report[name], report[f"num_{name}"], report[f"{name}_record"] = one.title, one.count, one.facts
    if cost is not None:
        report |= {f"cost_{name}": value for name, value in cost.to_dict().items()}
    report |= {**comparison.facts, **facts, "notes": comparison.notes, "versions": versions()}
    return report


def versions() -> dict[str, str]:
    """Versions of what computed the report."""
    names = ("numpy", "scipy", "torchmetrics", "pillow")
    return {
        "flowgression": flowgression.__version__,
        "python": platform.python_version(),
        "torch": torch.__version__,
        **{name: version(name) for name in names},
    }


def save_json(report: Mapping[str, Any], path: str | Path) -> None:
    """Write the report."""
    with atomic_write(path, "w") as file:
        file.write(json.dumps(report, indent=2) + "\n")


def print_table(report: Mapping[str, Any]) -> None:
    """Show the report in the terminal."""
    from rich.table import Table

    from flowgression.terminal import Terminal

    console = Terminal()
    table = Table(title=f"{report['samples']} against {report['reference']}", title_justify="left")
    for heading in ("metric", "value", "95 % interval"):
        table.add_column(heading, justify="left" if heading == "metric" else "right")
    for name in (each for each in LABELS if each in report):
        table.add_row(LABELS[name], _shown(report[name]), _shown_interval(report[f"{name}_interval"]))
    for name, value in (report["fid_per_class"] or {}).items():
        table.add_row(f"FID of {name}", _shown(value), "")
    console.print(table)
    facts = Table(show_header=False, box=None)
    for name, value in shown_facts(report).items():
        facts.add_row(name, value)
    console.print(facts)
    for note in report_notes(report):
        console.print(f"- {note}", highlight=False, markup=False)


def print_reports(reports: Mapping[str, Mapping[str, Any]]) -> None:
    """Several reports against one reference as one table, a row for each with its 95 % intervals, and the notes."""
    from rich.table import Table

    from flowgression.terminal import Terminal

    console = Terminal()
    first = next(iter(reports.values()))
    table = Table(title=f"against {first['reference']}", title_justify="left")
    shown = [name for name in LABELS if any(report.get(name) is not None for report in reports.values())]
    table.add_column("model")
    for name in shown:
        table.add_column(LABELS[name], justify="right")
    timed = all("cost_seconds" in report for report in reports.values())
    if timed:
        table.add_column("images/s", justify="right")
    for model, report in reports.items():
        cells = [_with_interval(report, name) for name in shown]
        speed = [f"{report['cost_images_per_second']:.2f}"] if timed else []
        table.add_row(model, *cells, *speed)
    console.print(table)
    facts = Table(show_header=False, box=None)
    for name, value in shown_facts(first).items():
        if name in ("features", "images"):
            facts.add_row(name, value)
    console.print(facts)
    console.print("- Models whose intervals overlap are not told apart by these samples.", highlight=False)
    for note in dict.fromkeys(note for report in reports.values() for note in report_notes(report)):
        console.print(f"- {note}", highlight=False, markup=False)


def _with_interval(report: Mapping[str, Any], name: str) -> str:
    interval = _shown_interval(report.get(f"{name}_interval"))
    return _shown(report.get(name)) + (f" ({interval})" if interval else "")


def shown_facts(report: Mapping[str, Any]) -> dict[str, str]:
    """What decides the numbers, as short texts."""
    features = report["features"] or {}
    record = report["samples_record"]
    shown = {
        "features": f"{features.get('name')} ({features.get('fingerprint')}), {features.get('resize')}",
        "images": f"{report['num_samples']} samples, {report['num_reference'] or 'unknown'} reference",
    }
    if {"num_inference_steps", "solver", "guidance_scale"} <= record.keys():
        shown["sampled"] = (
            f"{record.get('model')}: {describe(record)}, {record.get('precision')}, seed {record.get('seed')}"
        )
    if "cost_seconds" in report:
        memory = report["cost_peak_memory_mib"]
        shown["cost"] = (
            f"{report['cost_images_per_second']:.2f} images/s, {report['cost_network_calls']} network calls, "
            f"{report['cost_flops_per_image'] / 1e9:.3g} GFLOP an image, "
            + ("" if memory is None else f"{memory:.0f} MiB, ")
            + f"{report['cost_hardware']}, {report['cost_num_threads']} threads"
        )
    return shown


def report_notes(report: Mapping[str, Any]) -> list[str]:
    """The notes, and for each missing metric its reason."""
    reasons = [f"{LABELS[name]}: {report[f'{name}_reason']}." for name in LABELS if f"{name}_reason" in report]
    return [*reasons, *report["notes"]]


def _shown(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"


def _shown_interval(interval: list[float] | None) -> str:
    return "" if interval is None else f"{interval[0]:.4g} to {interval[1]:.4g}"
