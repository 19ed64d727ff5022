"""Who may import whom, read off every import statement of the package, those inside functions too."""

import ast
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, get_args

import flowgression
from flowgression.flow.solvers import SOLVER_NAMES
from flowgression.models import FAMILIES
from flowgression.registry import pipeline_names
from flowgression.sampling.options import option_types

PACKAGE = Path(flowgression.__file__).parent
LEAVES = {
    "documents",
    "checkpoints",
    "classes",
    "devices",
    "errors",
    "files",
    "flops",
    "memory",
    "pictures",
    "models",
    "registry",
    "terminal",
    "text",
    "threads",
    "typed",
    "_lazy",
}  # may be imported by every package

# Package -> packages that it may import, besides itself and the leaves.
ALLOWED = {
    "ops": set(),
    "layers": {"ops"},
    "autoencoders": {"layers"},
    "flow": set(),
    "data": set(),
    "sampling": {"flow", "layers", "autoencoders"},
    "training": {"flow", "layers", "data", "sampling", "autoencoders", "evaluation"},
    "families": {"flow", "ops", "layers", "autoencoders", "sampling", "training", "export"},
    "evaluation": {"sampling", "data", "autoencoders"},
    "study": {"families", "flow", "sampling", "data", "training", "evaluation"},
    "circuits": set(),
    "theory": {"families", "layers", "ops", "sampling"},
    "export": {"sampling"},
    "typeface": set(),
    "web": {"flow", "sampling", "typeface", "evaluation", "autoencoders"},
    "cli": {
        "ops", "layers", "autoencoders", "flow", "data", "sampling", "training", "evaluation", "study",
        "circuits", "theory", "export", "typeface", "web",
    },
}  # fmt: skip
# Packages that are kept to few libraries: everything else must not be imported there.
LIBRARIES = {
    "flops": {"torch"},
    "memory": {"torch"},
    "ops": {"torch", "triton"},
    "layers": {"torch", "diffusers", "safetensors"},
    "flow": {"torch", "torchdiffeq"},
    "typeface": {"numpy", "scipy", "PIL", "contourpy", "fontTools"},
    "circuits": {"numpy", "numba", "matplotlib", "rich"},
}

FILES = sorted(PACKAGE.rglob("*.py"))
TREES = {path: ast.parse(path.read_text()) for path in FILES}


def imports_of(path: Path) -> set[str]:
    """Absolute names of all modules that a file imports anywhere, relative imports refused."""
    names = set()
    for node in ast.walk(TREES[path]):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names.add(node.module or "")
            if node.module == "flowgression":
                names |= {f"flowgression.{alias.name}" for alias in node.names}
    return names


def test_imports_follow_the_layout() -> None:
    for path in FILES:
        check_imports(path)


def check_imports(path: Path) -> None:
    relative = path.relative_to(PACKAGE)
    package = relative.parts[0].removesuffix(".py")
    if len(relative.parts) == 1:
        ours = {name for name in imports_of(path) if name.startswith("flowgression.")}
        allowed = {
            "__init__": {"flowgression._lazy", "flowgression.registry", "flowgression.threads"},
            "__main__": {"flowgression.cli.main"},
            "models": {"flowgression._lazy", "flowgression.registry"},
            "registry": {"flowgression.errors", "flowgression.typed"},
            "classes": {"flowgression.errors", "flowgression.text"},
            "terminal": {"flowgression.text"},
            "checkpoints": {"flowgression.errors"},
            "typed": {"flowgression.errors"},
            "devices": {"flowgression.errors"},
        }.get(package, set())
        assert ours <= allowed, f"{relative} is a leaf but imports {ours}"
        others = {name.split(".")[0] for name in imports_of(path)} - {"flowgression", *sys.stdlib_module_names}
        assert others <= LIBRARIES.get(package, others), f"{relative} imports {others}"
        return
    assert package in ALLOWED, f"package {package!r} has no rule; add it to ALLOWED"
    for name in imports_of(path):
        parts = name.split(".")
        if parts[0] == "flowgression":
            if len(parts) > 1:
                assert parts[1] in ALLOWED[package] | LEAVES | {package, "__version__"}, f"{relative} imports {name}"
        elif package in LIBRARIES and parts[0] not in sys.stdlib_module_names:
            assert parts[0] in LIBRARIES[package], f"{relative} imports {name}"


def test_no_file_is_without_a_docstring() -> None:
    bare = [str(path.relative_to(PACKAGE)) for path in FILES if not ast.get_docstring(TREES[path])]
    assert not bare


def test_importing_the_package_loads_no_torch() -> None:
    code = "import sys, flowgression; sys.exit('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_loading_a_pipeline_imports_no_other_family() -> None:
    code = "import sys; from flowgression import load_pipeline; load_pipeline('sit-mnist'); print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    loaded = {name.split(".")[2] for name in done.stdout.split() if name.startswith("flowgression.families.")}
    assert loaded <= {"sit", "dit", "presets"}


NAMES = {
    *FAMILIES, *(family.title for family in FAMILIES.values()), *pipeline_names(),
    *SOLVER_NAMES,
}  # fmt: skip


def test_nobody_compares_the_name_of_a_family_or_a_solver() -> None:
    """`registry.py` and `flow/solvers` describe them; whoever needs to know something asks the description."""
    for path in FILES:
        assert compared_names(TREES[path]) == set(), path


def test_a_family_is_named_in_its_folder_and_its_entry_only() -> None:
    """A new family is its folder, its entry and a configuration: no package but those that import families names one.

    A family may build on another: HOFAR is a FlowAR. The theory is that of FlowAR.
    """
    for name, family in FAMILIES.items():
        assert {path.name for path in (PACKAGE / "families" / name).iterdir()} >= {
            "__init__.py", "model.py", "presets.py"
        }  # fmt: skip
        for path in FILES:
            relative = path.relative_to(PACKAGE)
            package = relative.parts[0]
            if package in ("families", "registry.py") or "families" in ALLOWED.get(package, ()):
                continue
            assert not names_in(TREES[path]) & {name, family.title}, f"{relative} names {name}"


def names_in(tree: ast.AST) -> set[str]:
    """Every identifier, every part of an imported module, and every string other than a docstring."""
    found = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            found.add(node.id)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            found.add(node.value)
        elif isinstance(node, ast.ImportFrom):
            found |= {*(node.module or "").split("."), *(alias.name for alias in node.names)}
    return found


def compared_names(tree: ast.AST) -> set[str]:
    """Names of families and solvers that a file compares with, matches, or tests membership in."""
    found = set()
    for node in ast.walk(tree):
        parts = [node.left, *node.comparators] if isinstance(node, ast.Compare) else []
        parts += [node.value] if isinstance(node, ast.MatchValue) else []
        for part in parts:
            inside = part.elts if isinstance(part, ast.Tuple | ast.List | ast.Set) else [part]
            found |= {each.value for each in inside if isinstance(each, ast.Constant) and each.value in NAMES}
    return found


def test_the_comparison_is_found_in_every_form() -> None:
    for code in (
        'a == "sit"',
        '"FlowAR" != a',
        'a in ("heun", "x")',
        'a not in {"dopri5"}',
        'match a:\n case "sde": b',
    ):
        assert compared_names(ast.parse(code))
    assert not compared_names(ast.parse('f("sit"); a == "sitting"'))


def test_no_sampling_option_is_declared_twice() -> None:
    """sampling/options.py says what an option is: elsewhere no flag is made by hand, what samples takes options and has
    none of its own, and a field or parameter that chooses a value has the option's type.
    """
    options = option_types()
    del options["times"]  # a word of its own
    own = {"flow", "sampling", "families", "study", "theory", "cli", "web", "export"}
    for path in FILES:
        relative = path.relative_to(PACKAGE)
        if relative.as_posix() == "sampling/options.py":
            continue
        assert not flags_in(TREES[path]) & set(options), relative
        for name, annotation in declared_names(TREES[path]).items():
            if name in options:
                assert relative.parts[0] not in own, f"{relative} declares {name}"
                plain = annotation.removesuffix(" | None")  # None for the default of a model
                assert plain == words(options[name]).removesuffix(" | None"), f"{relative}: {name} is {annotation}"


def words(hint: Any) -> str:
    """A type as a file writes it."""
    return hint.__name__ if isinstance(hint, type) and not get_args(hint) else str(hint).replace("typing.", "")


def flags_in(tree: ast.AST) -> set[str]:
    """Names of flags that a file writes out."""
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    texts = [each.value for call in calls for each in call.args if isinstance(each, ast.Constant)]
    return {text[2:].replace("-", "_") for text in texts if isinstance(text, str) and text.startswith("--")}


def declared_names(tree: ast.AST) -> dict[str, str]:
    """Names and types of parameters and of annotated fields with defaults."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            positional = [*node.args.posonlyargs, *node.args.args]
            chosen = positional[len(positional) - len(node.args.defaults) :]
            pairs = zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
            chosen += [each for each, default in pairs if default is not None]
            found |= {each.arg: ast.unparse(each.annotation) if each.annotation else "" for each in chosen}
        elif isinstance(node, ast.ClassDef):
            fields = [each for each in node.body if isinstance(each, ast.AnnAssign) and each.value is not None]
            found |= {
                each.target.id: ast.unparse(each.annotation) for each in fields if isinstance(each.target, ast.Name)
            }
    return found


def test_the_layout_in_the_documents_is_this_one() -> None:
    """CONTRIBUTING.md has a row for every package and a row for every leaf, and no others."""
    rows = re.findall(r"^\| (`.+?) \|", (Path(__file__).parents[1] / "CONTRIBUTING.md").read_text(), re.MULTILINE)
    named = [name.removesuffix(".py") for row in rows for name in re.findall(r"`([\w.]+)`", row)]
    assert sorted(named) == sorted([*ALLOWED, *LEAVES])
    files = {path.stem for path in PACKAGE.glob("*.py")} - {"__init__", "__main__"}
    assert files == LEAVES
    assert {path.parent.name for path in PACKAGE.glob("*/__init__.py")} == set(ALLOWED)
