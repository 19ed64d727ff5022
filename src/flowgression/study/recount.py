"""FLOPs of finished cells, counted again where another version of the counter wrote them; the images stay."""

from pathlib import Path
from typing import Any

from flowgression import flops
from flowgression.documents import read_json
from flowgression.evaluation.cost import count_work
from flowgression.sampling.loading import load_pipeline
from flowgression.study.config import Cell, StudyConfig
from flowgression.study.work import Unit, cell_path, finished, units, write_json


def recount(config: StudyConfig, steps: dict[str, int]) -> int:
    """Bring `cost_flops_per_image` of all finished cells up to date; returns how many were.

    FLOPs do not depend on weights, so each model is loaded once, whatever the seeds.

    Raises:
        InputError: a model whose cells have to be counted again is gone.
    """
    outdated: dict[str, list[tuple[Unit, Cell, dict[str, Any]]]] = {}
    for unit in units(config, steps):
        for cell in config.cells(unit.model):
            report = finished(config, unit, cell)
            if report is not None and report.get("cost_flop_counter") != flops.VERSION:
                outdated.setdefault(unit.model, []).append((unit, cell, report))
    for model, found in outdated.items():
        pipe, counted = load_pipeline(_pipeline(config, found[0][0])), {}
        for unit, cell, report in found:
            if cell not in counted:
                counted[cell] = count_work(pipe, cell.call())[1]
            report |= {"cost_flops_per_image": counted[cell], "cost_flop_counter": flops.VERSION}
            write_json(report, cell_path(config, Unit(model, unit.seed), cell, ".json"))
    return sum(map(len, outdated.values()))


def _pipeline(config: StudyConfig, unit: Unit) -> str:
    """The model of a unit that has finished cells."""
    taken = config.taken(unit.model)
    if taken:
        return taken
    record = Path(config.run_folder(unit.model, unit.seed)) / "trained.json"
    return read_json(record)["pipeline"]
