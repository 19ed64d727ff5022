"""docs/papers.md names code and tests that exist."""

import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import NamedTuple

import pytest

TESTS = Path(__file__).parent
DOCUMENT = TESTS.parent / "docs" / "papers.md"
HEAD = ["Statement", "Code", "Test", "What differs"]


class Row(NamedTuple):
    """Names in backticks of a line of the tables."""

    statement: str
    code: list[str]
    tests: list[str]


def rows(text: str) -> Iterator[Row]:
    """The lines of all tables; AssertionError for one of another shape."""
    for line in text.splitlines():
        if not line.startswith("|"):
            continue
        cells = [cell.strip() for cell in line.strip("|").split("|")]
        assert len(cells) == len(HEAD), line
        if cells != HEAD and not cells[0].startswith("---"):
            inside = [re.findall(r"`([^`]+)`", cell) for cell in cells]
            yield Row(cells[0], inside[1], inside[2])


def check_code(name: str) -> None:
    """A path from the root, or a dotted name below the package. Raises AssertionError or what the import raises."""
    if "/" in name:
        assert (TESTS.parent / name).is_file(), name
        return
    module, _, attribute = name.rpartition(".")
    assert hasattr(import_module(f"flowgression.{module}"), attribute), name


def check_test(name: str) -> None:
    """A path below tests and a function in it."""
    path, _, function = name.partition("::")
    assert re.search(rf"^ *def {function}\(", (TESTS / path).read_text(), re.MULTILINE), name


ROWS = list(rows(DOCUMENT.read_text()))


def test_every_name_exists() -> None:
    for row in ROWS:
        for name in row.code:
            check_code(name)
        for name in row.tests:
            check_test(name)


def test_what_has_code_has_a_test() -> None:
    assert len(ROWS) > 50
    assert [row.statement for row in ROWS if bool(row.code) != bool(row.tests)] == []


def test_missing_names_are_noticed() -> None:
    for name in ("flow.paths.LinearPaths", "configs/none.yaml"):
        with pytest.raises(AssertionError):
            check_code(name)
    with pytest.raises(ModuleNotFoundError):
        check_code("flow.routes.LinearPath")
    with pytest.raises(AssertionError):
        check_test("flow/test_paths.py::test_nothing")
