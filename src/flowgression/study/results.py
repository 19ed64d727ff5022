"""The finished points of a study as rows, and their mean and spread over the seeds."""

from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from flowgression.documents import read_json
from flowgression.evaluation.comparison import METRICS, SFID
from flowgression.study.config import StudyConfig
from flowgression.study.grid import VARIED, Point
from flowgression.study.work import Unit, finished, units

COSTS = ("cost_images_per_second", "cost_network_calls", "cost_flops_per_image")
COLUMNS = ("model", "seed", *VARIED, *METRICS, SFID, *COSTS, "parameters")


@dataclass(frozen=True)
class Summary:
    """One model in one point over the seeds: the mean of each number, and its standard deviation (0 for one seed)."""

    model: str
    point: Point
    seeds: int
    mean: dict[str, float]
    spread: dict[str, float]


@dataclass(frozen=True)
class Results:
    """Rows as they go into the CSV, summaries, training records by model and seed, and what is still open."""

    rows: list[dict[str, Any]]
    summaries: list[Summary]
    training: dict[tuple[str, int], dict[str, Any]]
    missing: int

    def of(self, model: str) -> list[Summary]:
        """All points of a model."""
        return [summary for summary in self.summaries if summary.model == model]

    def at(self, model: str, point: Point) -> Summary | None:
        """One point of a model, None if it is not finished."""
        return next((summary for summary in self.of(model) if summary.point == point), None)


def read_results(config: StudyConfig, steps: dict[str, int]) -> Results:
    """All that is finished."""
    rows, missing, training = [], 0, {}
    found: dict[tuple[str, Point], list[dict[str, Any]]] = {}
    for unit in units(config, steps):
        record = config.run_folder(unit.model, unit.seed) / "trained.json"
        if record.is_file():
            training[unit.model, unit.seed] = read_json(record)
        for point in config.points(unit.model):
            report = finished(config, unit, point)
            if report is None:
                missing += 1
                continue
            row = _row(unit, point, report)
            rows.append(row)
            found.setdefault((unit.model, point), []).append(row)
    order = list(config.models)
    summaries = [_summary(model, point, several) for (model, point), several in found.items()]
    summaries.sort(key=lambda one: order.index(one.model))
    return Results(rows, summaries, training, missing)


def read_real(config: StudyConfig) -> dict[str, Any] | None:
    """The report of real images, if the study has one."""
    path = Path(config.out) / "real.json"
    return read_json(path) if path.is_file() else None


def _row(unit: Unit, point: Point, report: dict[str, Any]) -> dict[str, Any]:
    values = {name: report.get(name) for name in (*METRICS, SFID, *COSTS, "parameters")}
    return {"model": unit.model, "seed": unit.seed, "cell": point.name, **dict(point.options), **values}


def _summary(model: str, point: Point, rows: list[dict[str, Any]]) -> Summary:
    names = [name for name in (*METRICS, SFID, *COSTS) if all(row[name] is not None for row in rows)]
    numbers = {name: [row[name] for row in rows] for name in names}
    return Summary(
        model=model,
        point=point,
        seeds=len(rows),
        mean={name: fmean(values) for name, values in numbers.items()},
        spread={name: stdev(values) if len(values) > 1 else 0.0 for name, values in numbers.items()},
    )
