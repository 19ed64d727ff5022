"""Who may import whom, read off every import statement of the package, those inside functions too."""

import ast
import subprocess
import sys
from pathlib import Path

import pytest

import flowgression

PACKAGE = Path(flowgression.__file__).parent
LEAVES = {
    "errors",
    "families",
    "files",
    "flops",
    "memory",
    "threads",
    "typed",
    "_lazy",
}  # may be imported by every room

# Room -> rooms of this package that it may import, besides itself and the leaves.
ALLOWED = {
    "ops": set(),
    "layers": {"ops"},
    "models": {"layers", "ops"},
    "flow": set(),
    "data": set(),
    "sampling": {"models", "flow"},
    "training": {"models", "flow", "data", "sampling"},
    "evaluation": {"sampling", "data"},
    "study": {"models", "sampling", "data", "training", "evaluation"},
    "circuits": set(),
    "theory": {"models", "layers", "ops"},
    "web": {"sampling"},
    "cli": {
        "ops", "layers", "models", "flow", "data", "sampling", "training", "evaluation", "study", "circuits", "theory",
        "web"
    },
}  # fmt: skip
# Rooms that are kept to few libraries: everything else must not be imported there.
LIBRARIES = {
    "flops": {"torch"},
    "memory": {"torch"},
    "ops": {"torch"},
    "layers": {"torch"},
    "flow": {"torch", "torchdiffeq"},
    "circuits": {"numpy", "numba", "scipy", "matplotlib", "rich"},
}
EXCEPTIONS = {
    # The one file of the compiler that sees models.
    "circuits/frontend.py": {"models", "layers", "ops", "torch"},
}


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports anywhere, relative imports refused."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module == "flowgression":
                names |= {f"flowgression.{alias.name}" for alias in node.names}
    return names


FILES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_follow_the_layout(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    room = relative.parts[0].removesuffix(".py")
    if len(relative.parts) == 1:
        ours = {name for name in imports_of(path) if name.startswith("flowgression.")}
        allowed = {
            "__init__": {"flowgression._lazy", "flowgression.families", "flowgression.threads"},
            "__main__": {"flowgression.cli.main"},
            "families": {"flowgression.errors"},
            "typed": {"flowgression.errors"},
        }.get(room, set())
        assert ours <= allowed, f"{relative} is a leaf but imports {ours}"
        others = {name.split(".")[0] for name in imports_of(path)} - {"flowgression", *sys.stdlib_module_names}
        assert others <= LIBRARIES.get(room, others), f"{relative} imports {others}"
        return
    assert room in ALLOWED, f"room {room!r} has no rule; add it to ALLOWED"
    extra = EXCEPTIONS.get(relative.as_posix(), set())
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "flowgression":
            if len(parts) > 1:
                assert parts[1] in ALLOWED[room] | LEAVES | extra | {room, "__version__"}, f"{relative} imports {name}"
        elif room in LIBRARIES and parts[0] not in sys.stdlib_module_names:
            assert parts[0] in LIBRARIES[room] | extra, f"{relative} imports {name}"


def test_no_file_is_without_a_docstring() -> None:
    bare = [str(path.relative_to(PACKAGE)) for path in FILES if not ast.get_docstring(ast.parse(path.read_text()))]
    assert not bare


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, flowgression; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
