"""Kernels built for an H100 (sm_90) without one: they compile, their registers suffice, and nothing is spilled."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.kernels.interpreter import needs_triton

pytestmark = needs_triton
CHEAP = (
    "fold d=8 g=2",
    "read d=8 g=2",
    "differentiate d=8 g=2",
    "hybrid forward d=72 bf16",
    "gated norm backward d=72",
)


def build(names: tuple[str, ...], cache: Path) -> dict[str, dict[str, int]]:
    """What ptxas says of each kernel; in a process that compiles, whatever this one does, and keeps nothing."""
    environment = {**os.environ, "TRITON_INTERPRET": "0", "TRITON_CACHE_DIR": str(cache)}
    command = [sys.executable, str(Path(__file__).parent / "build.py"), *names]
    done = subprocess.run(command, capture_output=True, text=True, env=environment)
    if done.returncode == 77:
        pytest.skip(done.stdout.strip())
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def check(found: dict[str, dict[str, int]]) -> None:
    for name, used in found.items():
        assert used["REG"] <= 255, name
        assert used["STACK"] == used["LOCAL"] == 0, f"{name} spills registers: {used}"
        if name.split()[0] in ("fold", "read", "differentiate"):
            assert used["SHARED"] == 0, f"{name}: features leave the registers"


def test_kernels_build_for_sm_90(tmp_path: Path) -> None:
    found = build(CHEAP, tmp_path)
    assert set(found) == set(CHEAP)
    check(found)


@pytest.mark.slow
def test_all_kernels_build_for_sm_90(tmp_path: Path) -> None:
    found = build((), tmp_path)
    assert len(found) > len(CHEAP)
    check(found)
