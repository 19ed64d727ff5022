"""Fixtures for all rooms: commands in this process, and in several."""

from collections.abc import Callable
from typing import NamedTuple

import pytest

from flowgression.cli.main import main
from tests.launching import launch

__all__ = ["command", "launch"]


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
