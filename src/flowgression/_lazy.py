"""Public names of a package that are loaded on first use (PEP 562). A leaf: it imports nothing of this package."""

import sys
from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

SOURCES: dict[str, Mapping[str, str]] = {}
"""The names of each package that has such names, and the module of each: what `tools/stubs.py` writes down."""


def lazy_names(
    package: str, sources: Mapping[str, str]
) -> tuple[Callable[[str], Any], Callable[[], list[str]], list[str]]:
    """`__getattr__`, `__dir__` and `__all__` for a package whose names come from the modules that define them.

    Args:
        package: `__name__` of the package.
        sources: the module of each public name; a module that ends in the name itself is what the name stands for.
    """

    SOURCES[package] = sources

    def load(name: str) -> Any:
        if name not in sources:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(sources[name])
        value = module if sources[name] == f"{package}.{name}" else getattr(module, name)
        setattr(sys.modules[package], name, value)  # found without this function from now on
        return value

    names = sorted(sources)
    return load, lambda: sorted({*vars(sys.modules[package]), *names}), names
