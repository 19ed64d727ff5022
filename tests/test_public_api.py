"""The public names: what a package promises can be imported, says what it is, and has a page in docs/reference."""

import inspect
import pkgutil
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import pytest

import flowgression
from flowgression.errors import InputError
from tests.scripts import load_script

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
PACKAGES = [
    "flowgression",
    *(f"flowgression.{m.name}" for m in pkgutil.iter_modules(flowgression.__path__) if m.ispkg or m.name == "models"),
]
PUBLIC = [name for name in PACKAGES if hasattr(import_module(name), "__all__")]


@pytest.mark.parametrize("package", PUBLIC)
def test_every_public_name_is_there_and_says_what_it_is(package: str) -> None:
    module = import_module(package)
    for name in module.__all__:
        value = getattr(module, name)
        assert name in dir(module)
        if inspect.isclass(value) or inspect.isroutine(value) or inspect.ismodule(value):
            assert inspect.getdoc(value), f"{package}.{name} has no docstring"


def test_the_reference_has_a_page_for_each_public_package() -> None:
    """tests/docs reads the names on the built pages; the index names them all."""
    pages = {package.rpartition(".")[2] for package in PUBLIC}
    assert {path.stem for path in REFERENCE.glob("*.md")} == pages | {"index"}
    assert set(re.findall(r"^\| \[\w+\]\((\w+)\.md\)", (REFERENCE / "index.md").read_text(), re.MULTILINE)) == pages


def test_packages_without_a_public_face_are_known() -> None:
    assert set(PACKAGES) - set(PUBLIC) <= {
        f"flowgression.{name}" for name in ("autoencoders", "cli", "families", "layers", "typeface", "web")
    }


def test_an_unknown_name_is_an_attribute_error() -> None:
    with pytest.raises(AttributeError, match="module 'flowgression' has no attribute 'trian'"):
        flowgression.trian  # noqa: B018


def test_names_stand_for_what_they_say() -> None:
    from flowgression.training.config import TrainConfig
    from flowgression.training.loop import train

    assert flowgression.train is train
    assert flowgression.TrainConfig is TrainConfig
    assert flowgression.flow is import_module("flowgression.flow")
    assert flowgression.ops is import_module("flowgression.ops")


def test_packages_load_no_torch_before_a_name_is_used() -> None:
    code = f"import sys, {', '.join(PUBLIC)}; sys.exit('torch' in sys.modules or 'numpy' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_python_m_is_the_command() -> None:
    arguments = [sys.executable, "-m", "flowgression"]
    version = subprocess.run([*arguments, "--version"], capture_output=True, text=True, check=True)
    assert version.stdout == f"flowgression {flowgression.__version__}\n"
    wrong = subprocess.run([*arguments, "smaple"], capture_output=True, text=True, check=False)
    assert (wrong.returncode, wrong.stdout) == (2, "")
    assert wrong.stderr.startswith("flowgression: unknown command 'smaple': did you mean 'sample'?")


def test_evaluate_compares_arrays_with_files_as_the_command_does(tmp_path: Path) -> None:
    from flowgression import evaluate
    from flowgression.data import load_mnist
    from flowgression.evaluation import save_statistics

    digits = load_mnist("test").images[:200, :, :, None]
    reference = tmp_path / "reference.safetensors"
    save_statistics(evaluate(digits, "mnist:test[:100]", num_replicates=0).samples, reference)
    same = evaluate(digits, reference, num_replicates=0)
    assert same.report["fid"] == pytest.approx(0, abs=1e-6)
    assert same.report["num_samples"] == same.report["num_reference"] == 200
    other = evaluate(digits[:100], "mnist:train[:200]", num_replicates=2)
    assert other.report["fid"] > 1
    assert other.report["fid_interval"] is not None
    with pytest.raises(InputError, match=r"images must be uint8 \[N,H,W,1 or 3\]; got float64"):
        evaluate(digits / 255, reference)
    with pytest.raises(InputError, match="holds statistics; give the images"):
        evaluate(reference, "mnist:test[:10]")


def test_editors_and_type_checkers_read_the_same_names(monkeypatch: pytest.MonkeyPatch) -> None:
    for path, text in load_script("tools/stubs.py", monkeypatch).stubs().items():
        assert path.read_text() == text, "run `python tools/stubs.py`"
