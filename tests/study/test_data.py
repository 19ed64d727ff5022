"""What a study ships of its results: every seed of the main point, and the pairs that it compares."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from flowgression.study import read_study
from flowgression.study.data import write_data
from flowgression.study.results import Results
from tests.scripts import load_script

FIDS = {"SiT": [2.0, 2.2, 1.9, 2.1, 2.3], "ARFlow, S = 3": [1.0, 1.1, 0.9, 1.2, 1.0]}


def test_data_of_a_study_give_its_interval(
    tiny_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = read_study(tiny_study(seeds=[0, 1, 2, 3, 4], compare={"ARFlow, S = 3": ["SiT"]}))
    main, other = config.points("SiT")
    rows = [
        {"model": model, "seed": seed, "cell": point.name, "fid": fid + 10 * (point is other)}
        for model, fids in FIDS.items()
        for seed, fid in enumerate(fids)
        for point in (main, other)
    ]
    path = write_data(config, Results(rows, [], {}, 0))
    found = json.loads(path.read_text())
    assert found["models"] == {name: {"values": dict(zip("01234", fids, strict=True))} for name, fids in FIDS.items()}
    assert found["comparisons"] == 2
    assert found["real"] is None
    assert found["settings_fixed_before"] is None
    (row,) = load_script("benchmarks/verdicts.py", monkeypatch).rows(path)
    assert row[1:] == [
        "ARFlow, S = 3 minus SiT",
        "-1.06 [-1.25, -0.87]",
        "[-1.30, -0.82] (2)",
        "not enough evidence: settings not fixed before",
    ]

    rows[:] = [row | {"fid": None} for row in rows if row["model"] == "SiT"]
    assert json.loads(write_data(config, Results(rows, [], {}, 1)).read_text())["differences"] == []
