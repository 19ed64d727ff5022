"""The command: its last line, and how it stops."""

import os
import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path
from types import SimpleNamespace

import pytest

from flowgression.cli.serve import BUILTIN
from flowgression.web import models


class Shown(SimpleNamespace):
    """A pipeline of which only a progress bar is asked."""

    def set_progress_bar_config(self, disable: bool) -> None:
        pass


MAIN = [sys.executable, "-m", "flowgression", "serve"]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_serves_until_a_signal(number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*MAIN, "--model", "sit-mnist", "--no-open"],
        stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env={**os.environ, "PYTHONUNBUFFERED": "1"},
    )  # fmt: skip
    try:
        assert process.stdout is not None
        line = next(line for line in process.stdout if "token=" in line)
        url = line.strip()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/\?token=[\w-]{20,}", url)
        address, token = url.split("/?token=")
        asked = urllib.request.Request(f"{address}/api/models", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as response:
            assert b"sit-mnist" in response.read()
        process.send_signal(number)
        assert process.wait(30) == 0
        assert process.stdout.read() == ""
    finally:
        process.kill()
        process.stdout.close()


@pytest.mark.parametrize(
    ("flags", "message"),
    [(["--port", "70000"], "--port is 70000"), (["--model", "sit-mnits"], "did you mean 'sit-mnist'")],
)
def test_wrong_flags(flags: list[str], message: str) -> None:
    done = subprocess.run([*MAIN, *flags], capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert message in done.stderr
    assert "Traceback" not in done.stderr


def test_a_run_is_called_by_its_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """`--model pipeline`, typed in the run's folder, and other ways to it."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "photos" / "pipeline").mkdir(parents=True)
    shown = []
    monkeypatch.setattr(models, "load_pipeline", lambda name: SimpleNamespace(to=lambda device: Shown()))
    monkeypatch.setattr(models, "describe", lambda name, pipe: shown.append(name))
    models.load_models(["photos", "photos/pipeline/", "owner/name", "pipeline"])
    monkeypatch.chdir(tmp_path / "photos")
    models.load_models(["pipeline", ".", "pipeline/."])
    assert shown == ["photos", "photos'", "name", "pipeline", "photos", "photos'", "photos''"]


def test_all_parts_of_the_page_have_a_model_by_default() -> None:
    """Each section shows models of one ability, and hides where there is none."""
    abilities = [model.about["abilities"] for model in models.load_models(BUILTIN).values()]
    for ability in ("complete", "averages", "scales", "state", "examples"):
        assert any(ability in each for each in abilities), ability
