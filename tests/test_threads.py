"""What is set for threads before torch is loaded, and what the user set stays."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from flowgression import threads

REPORT = "import os, flowgression; print(os.environ.get('OMP_WAIT_POLICY'), os.environ.get('GOMP_SPINCOUNT'))"


def in_a_new_process(code: str, **environment: str) -> str:
    clean = {name: value for name, value in os.environ.items() if name not in threads.WAITING}
    command = [sys.executable, "-c", code]
    return subprocess.run(command, env=clean | environment, capture_output=True, text=True, check=True).stdout.strip()


def test_importing_the_package_lets_idle_threads_sleep() -> None:
    assert in_a_new_process(REPORT) == "PASSIVE None"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"OMP_WAIT_POLICY": "ACTIVE"}, "ACTIVE None"),
        ({"GOMP_SPINCOUNT": "7"}, "None 7"),
        ({"KMP_BLOCKTIME": "1"}, "None None"),
    ],
)
def test_what_the_user_set_stays(given: dict[str, str], expected: str) -> None:
    assert in_a_new_process(REPORT, **given) == expected


def test_nothing_is_set_once_torch_is_loaded(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in threads.WAITING:
        monkeypatch.delenv(name, raising=False)
    threads.prepare_threads()
    assert "OMP_WAIT_POLICY" not in os.environ


@pytest.mark.parametrize(
    ("content", "expected"),
    [("max 100000", None), ("200000 100000", 2), ("150000 100000", 2), ("1000 100000", 1), ("", None)],
)
def test_a_container_s_limit(content: str, expected: int | None, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text(content)
    assert threads.quota(tmp_path / "cpu.max") == expected
    assert threads.quota(tmp_path / "none") is None


def test_no_more_threads_than_a_container_may_use(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "cpu.max").write_text("100000 100000")
    monkeypatch.setattr(os, "cpu_count", lambda: 64)
    monkeypatch.setattr(threads, "quota", lambda: 1)
    monkeypatch.delitem(sys.modules, "torch")
    for given, expected in ((None, "1"), ("5", "5")):
        monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
        if given:
            monkeypatch.setenv("OMP_NUM_THREADS", given)
        threads.prepare_threads()
        assert os.environ["OMP_NUM_THREADS"] == expected


@pytest.fixture
def number_of_threads() -> Any:
    before = torch.get_num_threads()
    yield before
    torch.set_num_threads(before)


@pytest.mark.parametrize("flag", ["--num-threads", "--num_threads"])
def test_the_flag_sets_the_threads(
    flag: str, number_of_threads: int, command: Callable[..., Any], tmp_path: Path
) -> None:
    wanted = number_of_threads + 1
    arguments = ("--num-images", 1, "--num-inference-steps", 1, "--out", tmp_path / "a.png", flag, wanted)
    assert command("sample", *arguments).status == 0
    assert torch.get_num_threads() == wanted


COMPUTING = {
    "sample": [],
    "evaluate": ["--reference", "r"],
    "criterion": ["--model", "m"],
    "complexity": [],
    "lowrank": ["--model", "m", "--out", "o"],
    "cache-latents": ["--out", "o"],
    "reference": ["i", "--out", "o.npz"],
    "study": ["study-mnist"],
    "train": ["--config", "quick"],
    "train-autoencoder": ["--data", "mnist"],
}


@pytest.mark.parametrize("name", COMPUTING)
def test_every_command_that_computes_has_the_flag(name: str, command: Callable[..., Any]) -> None:
    result = command(name, *COMPUTING[name], "--num-threads", 0)
    assert result.status == 2
    assert re.search(r"threads.* one or more", result.err), result.err
