"""The wheel, installed outside the checkout into an environment of its own: it holds the package whole, and it samples.

Nothing is fetched: the new environment finds torch and the other dependencies where this one has them, and pip checks
that they are what the wheel asks for.
"""

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest
from PIL import Image

import flowgression
from tests.scripts import ROOT

pytestmark = [pytest.mark.slow, pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout")]
BUILT_FROM = ("src", "configs", "pyproject.toml", "README.md", "LICENSE")
NOT_SHIPPED = shutil.ignore_patterns("__pycache__", "*.egg-info", "build", "*.so")


def run(*command: str | Path, cwd: Path) -> str:
    """What a command prints, in an environment that knows nothing of the checkout."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "PIP_"))}
    environment = {**kept, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    done = subprocess.run(
        list(map(str, command)), cwd=cwd, env=environment, capture_output=True, text=True, timeout=600
    )
    assert done.returncode == 0, f"{command}:\n{done.stdout}\n{done.stderr}"
    return done.stdout


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy, so that nothing is left in the checkout."""
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for name in BUILT_FROM:
        path = ROOT / name
        if path.is_dir():
            shutil.copytree(path, source / name, ignore=NOT_SHIPPED, symlinks=True)
        else:
            shutil.copy(path, source / name)
    run(sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation", "-w", dist, source, cwd=dist)
    (built,) = dist.glob("*.whl")
    return built


def test_the_wheel_holds_the_package_whole(wheel: Path) -> None:
    """Every file of the package that git knows, and no test."""
    assert wheel.name == f"flowgression-{flowgression.__version__}-py3-none-any.whl"
    package = ROOT / "src" / "flowgression"
    files = {
        f"flowgression/{path.relative_to(package).as_posix()}"
        for path in package.rglob("*")
        if path.is_file() and "__pycache__" not in path.parts and path.suffix not in (".so", ".pyc")
    }
    with zipfile.ZipFile(wheel) as file:
        shipped = set(file.namelist())
    assert files - shipped == set()
    facts = f"flowgression-{flowgression.__version__}.dist-info"
    assert {name.split("/")[0] for name in shipped} == {"flowgression", facts}


def test_an_installed_wheel_samples(wheel: Path, tmp_path: Path) -> None:
    run(sys.executable, "-m", "venv", "--without-pip", "fresh", cwd=tmp_path)
    scripts = tmp_path / "fresh" / ("Scripts" if os.name == "nt" else "bin")
    python, command = scripts / "python", scripts / "flowgression"
    packages = Path(run(python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))", cwd=tmp_path).strip())
    (packages / "others.pth").write_text(sysconfig.get_path("purelib") + "\n")
    run(sys.executable, "-m", "pip", "--python", python, "install", "--no-index", wheel, cwd=tmp_path)
    where = "import flowgression; print(flowgression.__file__); print(flowgression.__version__)"
    file, version = run(python, "-c", where, cwd=tmp_path).split()
    assert Path(file).is_relative_to(packages)
    assert version == flowgression.__version__

    few = ("--num-images", "2", "--num-inference-steps", "2", "--out", "two.png")
    run(command, "sample", "--model", "arflow-mnist", *few, cwd=tmp_path)
    with Image.open(tmp_path / "two.png") as image:
        assert image.width > image.height >= 28
    assert "max_steps" in run(command, "train", "--config", "quick", "--print_config", cwd=tmp_path)
    assert "sit-emoji" in run(command, "models", cwd=tmp_path)
