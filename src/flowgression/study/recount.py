"""FLOPs of finished points, counted again where another version of the counter wrote them; the images stay."""

from pathlib import Path
from typing import Any

from flowgression import flops
from flowgression.documents import read_json
from flowgression.evaluation.cost import count_work
from flowgression.sampling.loading import load_pipeline
from flowgression.study.config import StudyConfig
from flowgression.study.grid import Point
from flowgression.study.work import Unit, finished, point_path, units, write_json


def recount(config: StudyConfig, steps: dict[str, int]) -> int:
    """Bring `cost_flops_per_image` of all finished points up to date; returns how many were.

    FLOPs do not depend on weights, so each model is loaded once, whatever the seeds.

    Raises:
        InputError: a model whose points have to be counted again is gone.
    """
    outdated: dict[str, list[tuple[Unit, Point, dict[str, Any]]]] = {}
    for unit in units(config, steps):
        for point in config.points(unit.model):
            report = finished(config, unit, point)
            if report is not None and report.get("cost_flop_counter") != flops.VERSION:
                outdated.setdefault(unit.model, []).append((unit, point, report))
    for model, found in outdated.items():
        pipe, counted = load_pipeline(_pipeline(config, found[0][0])), {}
        for unit, point, report in found:
            if point not in counted:
                counted[point] = count_work(pipe, point.call())[1]
            report |= {"cost_flops_per_image": counted[point], "cost_flop_counter": flops.VERSION}
            write_json(report, point_path(config, Unit(model, unit.seed), point, ".json"))
    return sum(map(len, outdated.values()))


def _pipeline(config: StudyConfig, unit: Unit) -> str:
    """The model of a unit that has finished points."""
    taken = config.taken(unit.model)
    if taken:
        return taken
    record = Path(config.run_folder(unit.model, unit.seed)) / "trained.json"
    return read_json(record)["pipeline"]
