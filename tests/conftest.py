"""Fixtures for all packages: commands in this process, and in several."""

import os
from collections.abc import Callable
from typing import NamedTuple

import pytest

from flowgression.cli.main import main
from tests.launching import launch

__all__ = ["command", "launch"]


def pytest_configure() -> None:
    """The workers of `pytest -n` share the processors; torch reads this when the first test file loads it."""
    if workers := os.environ.get("PYTEST_XDIST_WORKER_COUNT"):
        os.environ.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // int(workers))))


class Result(NamedTuple):
    status: int
    out: str
    err: str


@pytest.fixture
def command(capsys: pytest.CaptureFixture[str]) -> Callable[..., Result]:
    def run(*arguments: object) -> Result:
        try:
            status = main([str(argument) for argument in arguments])
        except SystemExit as stop:  # --help of argparse
            status = int(stop.code or 0)
        return Result(status, *capsys.readouterr())

    return run
