"""A finished study as a small file of results by seed, of which `benchmarks/verdicts.py` makes intervals and verdicts.

docs/data/README.md describes the fields. What no program can know is null: whether settings were fixed before the first
result was seen, and the page that tells of the study.
"""

import datetime
import json
from pathlib import Path
from typing import Any

import torch

from flowgression.evaluation.hardware import processor_name
from flowgression.files import atomic_write
from flowgression.study.config import StudyConfig
from flowgression.study.results import Results, read_real

NAME = "data.json"


def study_data(config: StudyConfig, results: Results) -> dict[str, Any]:
    """FID in the main point of the grid of every model and seed, and the pairs that the study compares."""
    main, real = config.main_point, read_real(config)
    values: dict[str, dict[str, float]] = {}
    for row in results.rows:
        if row["cell"] == main.name and row["fid"] is not None:
            values.setdefault(row["model"], {})[str(row["seed"])] = row["fid"]
    return {
        "title": config.title,
        "command": "flowgression study study.yaml",
        "date": str(datetime.date.today()),
        "machine": f"{processor_name(torch.device('cpu'))}, torch {torch.__version__}",
        "log": None,
        "measure": f"FID of {config.num_images} samples, features {config.features}, {main.describe()}",
        "better": "lower",
        "settings_fixed_before": None,
        "comparisons": sum(len(config.points(model)) for model, _ in config.pairs),
        "real": real and real["fid"],
        "models": {model: {"values": by_seed} for model, by_seed in values.items()},
        "differences": [
            {"ours": ours, "theirs": theirs} for ours, theirs in config.pairs if ours in values and theirs in values
        ],
    }


def write_data(config: StudyConfig, results: Results) -> Path:
    """Write data.json into the folder of the study; returns its path."""
    path = Path(config.out) / NAME
    with atomic_write(path, "w") as file:
        file.write(json.dumps(study_data(config, results), indent=1, ensure_ascii=False) + "\n")
    return path
