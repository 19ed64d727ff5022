"""Every third-party import of the package is declared in pyproject.toml, and every declaration has its reason."""

import ast
import re
import sys
import tomllib
from pathlib import Path

import pytest

import flowgression

PACKAGE = Path(flowgression.__file__).parent
ROOT = Path(__file__).parent.parent
DISTRIBUTIONS = {"yaml": "pyyaml", "PIL": "pillow"}  # where the import is called otherwise
NOT_DECLARED = {"torch_fidelity"}  # needs torchvision: installed by hand, as docs/evaluation.md says
BY_NAME = {"tensorboard", "wandb", "numba"}  # used through accelerate, or imported by a string


def declared() -> dict[str, set[str]]:
    """The distributions of pyproject.toml: those always installed under "", those of each extra under its name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    groups = {"": project["dependencies"], **project["optional-dependencies"]}
    return {
        name: {re.match(r"[\w.-]+", entry)[0].lower() for entry in entries} - {"flowgression"}
        for name, entries in groups.items()
    }


def imported() -> dict[str, Path]:
    """Top-level names of other libraries that src imports anywhere, each with a file that does."""
    found: dict[str, Path] = {}
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
            names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
            found |= {name.partition(".")[0]: path for name in names}
    return {name: path for name, path in found.items() if name not in {*sys.stdlib_module_names, "flowgression"}}


pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout")


def test_every_import_is_declared() -> None:
    known = set().union(*declared().values()) | NOT_DECLARED
    missing = {name: path for name, path in imported().items() if DISTRIBUTIONS.get(name, name).lower() not in known}
    assert not missing


def test_every_declaration_is_used() -> None:
    used = {DISTRIBUTIONS.get(name, name).lower() for name in imported()} | BY_NAME
    runtime = set().union(*(names for extra, names in declared().items() if extra not in ("dev", "docs")))
    assert runtime <= used


def test_every_declaration_has_its_reason() -> None:
    text = (ROOT / "docs" / "dependencies.md").read_text()
    unexplained = [name for name in set().union(*declared().values()) if name not in text.lower()]
    assert not unexplained
