"""The benchmark for GPUs, dry: every part runs on the CPU, one that fails harms no other, and time runs out."""

import json
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from tests.scripts import load_script

PARTS = ["speed", "low rank", "training, arflow", "sampling, arflow", "training, flowar", "sampling, flowar", "tests"]


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("benchmarks/gpu.py", monkeypatch)


def run(benchmark: ModuleType, folder: Path, *more: str) -> tuple[int, dict[str, Any], str]:
    status = benchmark.main(["--dry", "--out", str(folder), *more])
    return status, json.loads((folder / "gpu-dry-run.json").read_text()), (folder / "gpu-dry-run.md").read_text()


def test_every_part_runs_and_one_that_fails_is_named(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken(*_: Any) -> None:
        raise RuntimeError("no such kernel")

    monkeypatch.setattr(benchmark, "lowrank", broken)
    monkeypatch.setattr(benchmark, "gpu_tests", lambda run: {"status": 0, "summary": "not here"})
    status, facts, page = run(benchmark, tmp_path)
    assert status == 1
    assert facts["failures"] == {"low rank": "RuntimeError: no such kernel"}
    assert list(facts["results"]) == [part for part in PARTS if part != "low rank"]
    for form in facts["results"]["training, arflow"]:
        assert form["images/s"] > 0
        assert form["MFU"] > 0
        assert form["planned, GiB"] > 0
    assert "no such kernel" in page
    assert "figures mean nothing" in page


def test_what_no_time_is_left_for_is_named(benchmark: ModuleType, tmp_path: Path) -> None:
    status, facts, page = run(benchmark, tmp_path, "--minutes", "-1")
    assert status == 0
    assert facts["left_out"] == PARTS
    assert "Left out for want of time" in page


def test_memory_that_does_not_suffice_halves_the_batch(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import torch

    steps = benchmark.training_step

    def small(run: Any, family: str, preset: str | None, batch: int, compiled: bool) -> Any:
        if batch > 1:
            raise torch.OutOfMemoryError("too large")
        return steps(run, family, preset, batch, compiled)

    monkeypatch.setattr(benchmark, "training_step", small)
    run = benchmark.Run(torch.device("cpu"), tmp_path, "x", 0.0, dry=True)
    assert [row["batch"] for row in benchmark.training(run, "arflow", None)] == [1, 1]
