"""The scripts of tools/ and benchmarks/ as modules: they belong to no package."""

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parent.parent


def load_script(path: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The script at `path` below the root; `sys.modules` knows it while the test runs, as dataclasses want."""
    name = Path(path).stem + "_script"
    spec = importlib.util.spec_from_file_location(name, ROOT / path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, name, module)
    spec.loader.exec_module(module)
    return module
