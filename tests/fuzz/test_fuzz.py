"""Whatever is handed in: a result, or one line of error; no traceback, no hang, nothing damaged, nothing executed."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from flowgression import InputError
from tests.fuzz.base import Base, make_base
from tests.fuzz.harness import Case, clean, run_case
from tests.fuzz.kinds import LINES, Malicious, cases_of
from tests.fuzz.run import fuzz

SAMPLE, ALL = 330, 11_000


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> Base:
    return make_base(tmp_path_factory.mktemp("fuzz").resolve())


def test_a_sample(base: Base, tmp_path: Path) -> None:
    counts = fuzz(cases_of(SAMPLE), base, tmp_path)
    assert not counts.faults, counts.table()
    assert counts.statuses.total() >= SAMPLE - 20


@pytest.mark.slow
def test_all(base: Base, tmp_path: Path) -> None:
    counts = fuzz(cases_of(ALL), base, tmp_path)
    assert not counts.faults, f"{counts.faults[:20]}\n{counts.table()}"
    assert counts.statuses.total() >= ALL - 20


@pytest.mark.parametrize("name", LINES)
def test_the_lines_that_are_mutated_work(name: str, base: Base, tmp_path: Path) -> None:
    line, _ = LINES[name]
    tokens = [str(base.path(token[1:-1])) if token.startswith("{") else token for token in line.split()]
    with_steps = ["--max_steps", "1", "--device", "cpu", "--compile", "false"] if name == "train" else []
    outcome = run_case(Case([name, *tokens, *with_steps]), tmp_path)
    assert (outcome.status, outcome.faults) == (0, []), outcome.output


def test_the_verdict_sees_each_kind_of_fault(tmp_path: Path) -> None:
    kept = tmp_path / "kept"
    kept.write_text("before")

    def wrong() -> None:
        kept.write_text("after")
        (tmp_path / "x.tmp").touch()
        raise InputError("no")

    def defect() -> None:
        raise IndexError("list index out of range")

    assert run_case(Case(wrong, keep=[kept]), tmp_path).faults == [f"damaged: {kept}", "left behind: x.tmp"]
    clean(tmp_path / "x.tmp")
    (tmp_path / "x.tmp").unlink(missing_ok=True)
    assert [fault.partition(":")[0] for fault in run_case(Case(defect), tmp_path).faults] == ["IndexError"]
    assert run_case(Case(lambda: torch.load(evil(tmp_path), weights_only=False), (), tmp_path / "x"), tmp_path).faults
    assert run_case(Case(["info", "no-such-model"]), tmp_path).faults == []


def evil(folder: Path) -> Path:
    """A checkpoint that runs a program where it is unpickled."""
    torch.save({"a": Malicious(folder / "x")}, folder / "evil.pt")
    return folder / "evil.pt"


def test_a_hang_is_seen(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("tests.fuzz.harness.CPU_SECONDS", 0.05)

    def hang() -> None:
        while True:
            pass

    assert run_case(Case(hang), tmp_path).faults[0].startswith("hang: CPU")


def test_real_processes_say_one_line_and_exit_with_two(base: Base, tmp_path: Path) -> None:
    environment = {**os.environ, "HF_HUB_OFFLINE": "1"}
    wrong = ["sample", "--model", str(base.path("sit")), "--num-images", "9" * 30]
    damaged = tmp_path / "x.pt"
    damaged.write_bytes(base.path("sit.pt").read_bytes()[:500])
    for arguments in (wrong, ["convert", str(damaged), "--family", "sit", "--out", "out"], ["trian"]):
        command = [sys.executable, "-m", "flowgression", *arguments]
        result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
        assert (result.returncode, result.stdout) == (2, "")
        assert result.stderr.startswith("flowgression")
        assert result.stderr.count("\n") == 1
