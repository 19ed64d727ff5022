"""Write the stubs (`.pyi`) of the packages whose public names are loaded on first use.

`lazy_names` finds such a name when it runs; editors and type checkers do not run it and read the stubs. A test
compares them with the packages, so whoever adds a public name or a family runs

  python tools/stubs.py
"""

import importlib
import pkgutil
import sys
from pathlib import Path

import flowgression
from flowgression._lazy import SOURCES

HEADER = "# Written by tools/stubs.py: the names that are loaded on first use, for editors and type checkers."


def stubs() -> dict[Path, str]:
    """The text of each stub, by its path."""
    folder = Path(flowgression.__file__).parent
    for module in pkgutil.iter_modules([str(folder)], "flowgression."):
        if module.ispkg or module.name == "flowgression.models":
            importlib.import_module(module.name)
    return {stub_path(package): stub_of(package) for package in sorted(SOURCES)}


def stub_path(package: str) -> Path:
    source = Path(sys.modules[package].__file__ or "")
    return source.with_suffix(".pyi")


def stub_of(package: str) -> str:
    """The stub of one package: an import for each name, in the order of the names."""
    lines = [
        f"from {package} import {name} as {name}" if module == f"{package}.{name}" else
        f"from {module} import {name} as {name}"
        for name, module in sorted(SOURCES[package].items(), key=lambda entry: (entry[1], entry[0]))
    ]  # fmt: skip
    version = ["", "__version__: str"] if package == "flowgression" else []
    return "\n".join([HEADER, "", *lines, *version, ""])


def main() -> int:
    for path, text in stubs().items():
        path.write_text(text)
        print(path)
    return 0


if __name__ == "__main__":
    sys.exit(main())
