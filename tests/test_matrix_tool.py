"""The tool behind `make test-matrix`: its lines, its table, and rows that cannot run."""

import subprocess
import sys
from pathlib import Path
from types import ModuleType

import pytest

from tests.scripts import ROOT, load_script

pytestmark = pytest.mark.skipif(not (ROOT / "tools").exists(), reason="not in a checkout")


@pytest.fixture
def matrix(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    module = load_script("tools/matrix.py", monkeypatch)
    monkeypatch.setattr(module, "ROOT", tmp_path)
    monkeypatch.setattr(module, "WORK", tmp_path / ".matrix")
    monkeypatch.setattr(module, "TABLE", tmp_path / "testing.md")
    (tmp_path / ".matrix").mkdir()
    (tmp_path / "testing.md").write_text(f"before\n\n{module.HEADER}\n|---|\n\nafter\n")
    return module


def test_the_document_has_the_table(matrix: ModuleType) -> None:
    assert matrix.HEADER in (ROOT / "docs" / "log" / "testing.md").read_text().splitlines()


def test_counts_are_read_from_pytest_s_last_line(matrix: ModuleType) -> None:
    summary = "3 failed, 1961 passed, 2 skipped, 42 deselected, 1 error in 90.12s (0:01:30)"
    line = matrix.row(matrix.Setting("as installed"), sys.executable, summary, 91.2)
    assert line.startswith("| as installed | 1,961 | 4 | 2 | 91 s | Python 3.")
    assert line.count("|") == matrix.HEADER.count("|")
    nothing = matrix.row(matrix.Setting("x"), None, "stopped | early", 1.0)
    assert nothing.startswith("| x | none: stopped / early | | | ")
    assert nothing.count("|") == matrix.HEADER.count("|")


def test_a_line_replaces_that_of_its_setting_in_the_order_of_the_settings(matrix: ModuleType) -> None:
    for line in ("| OMP_NUM_THREADS=1 | a |", "| as installed | b |", "| OMP_NUM_THREADS=1 | c |"):
        matrix.write_row(line)
    content = matrix.TABLE.read_text().splitlines()
    assert content[4:] == ["| as installed | b |", "| OMP_NUM_THREADS=1 | c |", "", "after"]


def test_tests_run_with_the_variables_of_the_setting_alone(
    matrix: ModuleType, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "test_it.py").write_text(
        "import os\n"
        "def test_this():\n    assert os.environ['MKL_CBWR'] == 'AVX2'\n"
        "def test_others():\n    assert 'ONEDNN_MAX_CPU_ISA' not in os.environ\n"
        "def test_wrong():\n    assert False\n"
    )
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers =\n  slow\n  gpu\n")
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    said: list[str] = []
    line, passed = matrix.run_setting(matrix.Setting("MKL_CBWR=AVX2", {"MKL_CBWR": "AVX2"}), 1, said.append)
    assert line.startswith("| MKL_CBWR=AVX2 | 2 | 1 | 0 |")
    assert not passed
    assert said == ["starting", "100%"]


def test_what_cannot_run_has_a_line_that_says_why(matrix: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    line, passed = matrix.run_setting(matrix.Setting("old", python="2.0"), 1, lambda what: None)
    assert (line.startswith("| old | none: Python 2.0 is not installed here |"), passed) == (True, False)

    def refuse(*_: object, **__: object) -> None:
        raise subprocess.CalledProcessError(1, "uv")

    monkeypatch.setattr(matrix, "prepare", refuse)
    line, passed = matrix.run_setting(matrix.Setting("broken", python="3.11"), 1, lambda what: None)
    assert (line.startswith("| broken | none: not installed, see .matrix/broken.log"), passed) == (True, False)


def test_every_setting_has_a_name_of_its_own_and_patterns_choose(matrix: ModuleType) -> None:
    names = [setting.name for setting in matrix.settings()]
    assert len(set(names)) == len(names)
    assert [setting.name for setting in matrix.chosen(["lowest", "OMP_*=[12]"])] == [
        "OMP_NUM_THREADS=1", "OMP_NUM_THREADS=2", "lowest versions",
    ]  # fmt: skip
