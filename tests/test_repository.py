"""The files around the package say the same as the package: citation, lock, Dockerfile, workflow, hooks, templates."""

import re
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.version import Version

import flowgression
from tests.scripts import load_script

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
    """All of pyproject.toml; torch, which has two builds, in a file of its own."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    names = re.search(r"\[([\w,]+)\]", extras["all"][0])[1].split(",")
    wanted = [Requirement(entry) for entry in [*project["dependencies"], *(e for n in names for e in extras[n])]]
    text = (ROOT / "requirements-cpu.lock").read_text()
    locked = {name.lower(): Version(version) for name, version in re.findall(r"^([\w.-]+)==(\S+)", text, re.MULTILINE)}
    torch = (ROOT / "requirements-torch.lock").read_text()
    locked["torch"] = Version(re.search(r"^torch==(\S+)", torch, re.MULTILINE)[1])
    for requirement in wanted:
        version = locked[requirement.name.lower().replace("_", "-")]
        assert requirement.specifier.contains(version), f"{requirement} against {version}; run `make lock`"
    assert not [name for name in locked if name.startswith(("nvidia", "triton"))]


def test_the_workflow_runs_make_test_on_three_systems() -> None:
    job = read_yaml(".github/workflows/test.yml")["jobs"]["test"]
    systems = {name.partition("-")[0] for name in job["strategy"]["matrix"]["os"]}
    assert systems == {"ubuntu", "macos", "windows"}
    assert any("make test" in step.get("run", "") for step in job["steps"])


def test_the_workflow_may_only_read_and_runs_actions_of_known_commits() -> None:
    for file in sorted((ROOT / ".github" / "workflows").glob("*.yml")):
        workflow = read_yaml(str(file.relative_to(ROOT)))
        assert workflow["permissions"] == {"contents": "read"}
        for job in workflow["jobs"].values():
            assert "permissions" not in job
            assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", job.get("container", f"a@sha256:{'0' * 64}"))
            for step in job["steps"]:
                assert re.fullmatch(r"[\w.-]+/[\w./-]+@[0-9a-f]{40}", step.get("uses", f"a/b@{'0' * 40}")), step


def test_the_image_is_made_of_known_files() -> None:
    """The base by its digest; every package, torch too, by a hash."""
    dockerfile = (ROOT / "Dockerfile").read_text()
    assert re.findall(r"(?m)^FROM (.*)", dockerfile)
    for base in re.findall(r"(?m)^FROM (.*)", dockerfile):
        assert re.fullmatch(r"[\w./:-]+@sha256:[0-9a-f]{64}", base)
    installs = re.findall(r"pip install [^\n\"]*", dockerfile)
    assert len(installs) == 2
    assert all("--no-deps" in line for line in installs)
    assert "--require-hashes" in installs[0]
    for name in ("cpu", "torch", "cuda"):
        assert f"-r /tmp/requirements-{name}.lock" in dockerfile
        text = (ROOT / f"requirements-{name}.lock").read_text()
        blocks = re.split(r"(?m)^(?=[\w.-]+(?:\[[\w,]+\])?==)", text)[1:]
        assert blocks
        assert all("--hash=sha256:" in block for block in blocks)


def test_what_make_fetches_is_listed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each tool that fetches, and each package of npm with its version."""
    text, makefile = (ROOT / "SECURITY.md").read_text(), (ROOT / "Makefile").read_text()
    for target in ("demo", "test", "test-browser", "test-matrix", "site", "docs", "lock", "proofs"):
        assert re.search(rf"(?m)^{target}:", makefile), target
        assert f"`make {target}`" in text, target
    for name, pinned in load_script("tools/npm.py", monkeypatch).PINNED.items():
        assert f"{name} {pinned.version}" in text


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
    assert (ROOT / first).stat().st_size < 1_000_000
