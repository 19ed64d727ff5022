"""The files around the package say the same as the package: citation, lock, Dockerfile, workflow, hooks, templates."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import flowgression

ROOT = Path(__file__).parents[1]
pytestmark = pytest.mark.skipif(not (ROOT / "pyproject.toml").exists(), reason="not in a checkout")


def read_yaml(name: str) -> dict:
    return yaml.safe_load((ROOT / name).read_text())


def test_the_citation_names_this_version_and_licence() -> None:
    citation, project = read_yaml("CITATION.cff"), tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert citation["version"] == flowgression.__version__ == project["version"]
    assert citation["license"] == project["license"]
    assert {"cff-version", "message", "title", "authors"} <= citation.keys()


def test_the_lock_has_every_dependency_in_a_version_that_is_allowed() -> None:
    """All of pyproject.toml but torch, which the Dockerfile installs in a version that is allowed too."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = re.search(r"\[([\w,]+)\]", extras["all"][0])[1].split(",")
    wanted = [Requirement(entry) for entry in [*project["dependencies"], *(e for n in names for e in extras[n])]]
    text = (ROOT / "requirements-cpu.lock").read_text()
    locked = {name.lower(): Version(version) for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}
    dockerfile = (ROOT / "Dockerfile").read_text()
    locked["torch"] = Version(re.search(r"torch==(\S+)", dockerfile)[1])
    for requirement in wanted:
        version = locked[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), f"{requirement} against {version}; run `make lock`"
    assert not [name for name in locked if name.startswith(("nvidia", "triton"))]
    assert "--require-hashes -r /tmp/requirements-cpu.lock" in dockerfile


def test_the_workflow_runs_make_test_on_three_systems() -> None:
    job = read_yaml(".github/workflows/test.yml")["jobs"]["test"]
    systems = {name.partition("-")[0] for name in job["strategy"]["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    assert any("make test" in step.get("run", "") for step in job["steps"])


def test_hooks_are_those_of_make_lint() -> None:
    hooks = [hook["entry"] for repo in read_yaml(".pre-commit-config.yaml")["repos"] for hook in repo["hooks"]]
    assert hooks == ["ruff check --fix", "ruff format", "mypy"]


@pytest.mark.parametrize("name", ["bug", "idea"])
def test_templates_of_issues_have_what_a_form_needs(name: str) -> None:
    form = read_yaml(f".github/ISSUE_TEMPLATE/{name}.yml")
    assert form["name"]
    assert form["description"]
    assert all({"type", "id", "attributes"} <= entry.keys() for entry in form["body"])


def test_the_picture_at_the_top_of_the_readme_is_small() -> None:
    first = re.search(r"!\[[^\]]+\]\((\S+)\)", (ROOT / "README.md").read_text())[1]
    assert first == "docs/images/walk.gif"
    assert (ROOT / first).stat().st_size < 1_000_000
