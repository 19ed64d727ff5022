"""What the browser's command line shows to other users of the machine: no token."""

import os
import re
import stat
import subprocess
import sys
import time
import urllib.request
from pathlib import Path

import pytest

from flowgression.web.launch import OneTimeFile

MAIN = [sys.executable, "-m", "flowgression", "serve"]


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_the_browser_is_given_a_file_of_mode_600(tmp_path: Path) -> None:
    """A browser that writes down its arguments; the file is gone once the page has asked for something."""
    browser, seen = tmp_path / "browser", tmp_path / "seen"
    browser.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {seen}.tmp\nmv {seen}.tmp {seen}\n')
    browser.chmod(0o755)
    environment = {**os.environ, "BROWSER": str(browser), "HOME": str(tmp_path), "PYTHONUNBUFFERED": "1"}
    process = subprocess.Popen(
        [*MAIN, "--model", "sit-mnist"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, env=environment
    )
    try:
        assert process.stdout is not None
        address, token = next(line for line in process.stdout if "token=" in line).strip().split("/?token=")
        wait_for(seen)
        arguments = seen.read_text()
        assert token not in arguments
        file = Path(arguments.strip().removeprefix("file://"))
        assert stat.S_IMODE(file.stat().st_mode) == 0o600
        assert stat.S_IMODE(file.parent.stat().st_mode) == 0o700
        assert re.search(r'content="0; url=([^"]*)"', file.read_text())[1] == f"{address}/?token={token}"
        asked = urllib.request.Request(f"{address}/api/models", headers={"Authorization": f"Bearer {token}"})
        with urllib.request.urlopen(asked, timeout=30) as response:
            assert response.status == 200
        assert not file.parent.exists()
        process.terminate()
        assert process.wait(30) == 0
    finally:
        process.kill()
        process.stdout.close()


def test_the_file_is_removed_at_the_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    with OneTimeFile("http://127.0.0.1:1/?a=1&token=x") as file:
        assert 'href="http://127.0.0.1:1/?a=1&amp;token=x"' in file.path.read_text()
    assert list(tmp_path.iterdir()) == []


def wait_for(path: Path) -> None:
    end = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < end
        time.sleep(0.05)
