"""Figures of the documents on built-in models: of the weights in the package, or the page says that they are older."""

import json
import re
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
from safetensors.numpy import load_file, save_file

from flowgression.autoencoders.presets import builtin_autoencoders
from flowgression.sampling import builtin_models
from flowgression.sampling.folders import find_folder
from tests.scripts import ROOT, load_script

pytestmark = pytest.mark.skipif(not (ROOT / "docs").exists(), reason="not in a checkout")
TABLE = "| a |\n|---|\n| 1 |"


@pytest.fixture
def tool(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    return load_script("tools/figures.py", monkeypatch)


@pytest.fixture
def figure(tool: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """A figure of sit-mnist whose command prints a table and other lines, in a checkout of its own."""
    monkeypatch.setattr(tool, "ROOT", tmp_path)
    return tool.Figure("one", "page.md", '-c \'print("title"); print("| a |\\n|---|\\n| 2 |")\'', ("sit-mnist",), 0.1)


def write_page(root: Path, tool: ModuleType, figure, digest: str) -> Path:
    """A page with `figure`, stamped with `digest`."""
    stamp = tool.Stamp("2026-01-01", "a machine, 2 vCPU", {"sit-mnist": digest}, "python x.py")
    page = root / figure.page
    page.write_text(f"before\n\n<!-- figure one -->\n\n{TABLE}\n\n{stamp}\n\n<!-- end -->\n\nafter\n<!-- end -->\n")
    return page


def test_documents_are_of_the_weights_in_the_package(tool: ModuleType) -> None:
    assert list(tool.problems()) == []


def test_every_figure_is_listed(tool: ModuleType) -> None:
    """A page holds no figure that the tool does not know, and models and scripts exist."""
    found = {
        (str(page.relative_to(ROOT)), name)
        for page in [*(ROOT / "docs").rglob("*.md"), ROOT / "README.md"]
        if "_build" not in page.parts
        for name in re.findall(r"<!-- figure (\S+) -->", page.read_text(encoding="utf-8"))
    }
    assert found == {(each.page, each.name) for each in tool.FIGURES if each.page.endswith(".md")}
    for figure in tool.FIGURES:
        assert (ROOT / figure.command.split()[0]).is_file()
        assert set(figure.models) <= builtin_models().keys() | builtin_autoencoders().keys()


def test_the_table_of_models_says_what_the_command_says(tool: ModuleType) -> None:
    """docs/which-model.md and `flowgression models`: parameters and FID."""
    page = (ROOT / "docs/which-model.md").read_text(encoding="utf-8")
    (figure,) = (each for each in tool.FIGURES if each.name == "models")
    rows = re.findall(r"^\| `([\w-]+)` \| ([\d,]+) \| ([\d.]+)", tool.place(figure, page)[1], re.MULTILINE)
    shown = {name: (int(size.replace(",", "")), round(float(fid), 2)) for name, size, fid in rows}
    recorded = json.loads((ROOT / "src/flowgression/builtin/models.json").read_text())["built_in"]
    judged = [row for row in recorded if row["fid"] is not None]
    assert shown == {row["name"]: (row["parameters"], round(row["fid"], 2)) for row in judged}


def test_a_digest_is_that_of_the_weights(tool: ModuleType, tmp_path: Path) -> None:
    source, copy = find_folder("sit-mnist"), tmp_path / "model"
    (copy / "transformer").mkdir(parents=True)
    (copy / "model_index.json").write_bytes((source / "model_index.json").read_bytes())
    (copy / tool.WEIGHTS).write_bytes((source / tool.WEIGHTS).read_bytes())
    assert tool.weights_digest(copy) == tool.weights_digest("sit-mnist")
    weights = load_file(copy / tool.WEIGHTS)
    next(iter(weights.values())).flat[0] += 1
    save_file(weights, copy / tool.WEIGHTS)
    assert tool.weights_digest(copy) != tool.weights_digest("sit-mnist")


def test_other_weights_are_found_marked_and_made_again(tool: ModuleType, figure, tmp_path: Path) -> None:
    page = write_page(tmp_path, tool, figure, "0" * 12)
    assert "run `make figures`" in next(tool.problems([figure]))
    tool.mark(figure)
    assert list(tool.problems([figure])) == []
    assert f"*{tool.OLDER}2026-01-01" in page.read_text()
    assert TABLE in page.read_text()

    tool.make(figure)
    text = page.read_text()
    assert list(tool.problems([figure])) == []
    assert tool.OLDER not in text
    assert tool.place(figure, text)[1] == "| a |\n|---|\n| 2 |"
    assert tool.stamp_of(figure) == tool.new_stamp(figure)
    assert text.startswith("before\n\n")
    assert text.endswith("<!-- end -->\n\nafter\n<!-- end -->\n")
    tool.mark(figure)
    assert page.read_text() == text


def test_a_page_that_calls_todays_weights_older_is_wrong_too(tool: ModuleType, figure, tmp_path: Path) -> None:
    write_page(tmp_path, tool, figure, tool.weights_digest("sit-mnist"))
    assert list(tool.problems([figure])) == []
    tool.write(figure, replace(tool.stamp_of(figure), older=True), None)
    assert len(list(tool.problems([figure]))) == 1
    other = replace(figure, models=("sit-mnist", "arflow-mnist"))
    assert "expected ['arflow-mnist', 'sit-mnist']" in next(tool.problems([other]))


def test_a_failing_command_changes_nothing_and_is_reported(
    tool: ModuleType, figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Of three figures, one of today's weights, the second is made although the first fails."""
    digest = "0" * 12
    failing = replace(figure, command="-c 'raise SystemExit(3)'")
    silent = replace(figure, page="other.md", command="-c 'print(1)'")
    good = replace(figure, page="good.md")
    current = replace(figure, page="current.md", command="-c 'raise SystemExit(4)'")
    for each in (failing, silent, good):
        write_page(tmp_path, tool, each, digest)
    write_page(tmp_path, tool, current, tool.weights_digest("sit-mnist"))
    monkeypatch.setattr(tool, "FIGURES", (failing, silent, good, current))
    assert tool.main([]) == 1
    printed = capsys.readouterr().out
    assert "3 figures to make" in printed
    assert "failed: one, one" in printed
    assert "printed no table" in printed
    assert TABLE in (tmp_path / failing.page).read_text()
    assert tool.OLDER in (tmp_path / failing.page).read_text()
    assert "| 2 |" in (tmp_path / "good.md").read_text()
    assert tool.stamp_of(current).date == "2026-01-01"


def test_a_file_of_data_carries_its_stamp_too(tool: ModuleType, figure, tmp_path: Path) -> None:
    (tmp_path / "data.json").write_text('{"measured":"2026-01-01, a machine; python x.py","fid":1}\n')
    data = replace(figure, page="data.json", command="-c 'print(1)'", picture=True)
    assert "is stamped []" in next(tool.problems([data]))
    tool.make(data)
    assert list(tool.problems([data])) == []
    stamp = tool.stamp_of(data)
    assert json.loads((tmp_path / "data.json").read_text())["fid"] == 1
    tool.write(data, replace(stamp, weights={"sit-mnist": "0" * 12}), None)
    tool.mark(data)
    assert json.loads((tmp_path / "data.json").read_text())["measured"].startswith(tool.OLDER)


def test_what_needs_absent_data_is_said_and_marked(
    tool: ModuleType, figure, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    page = write_page(tmp_path, tool, figure, "0" * 12)
    monkeypatch.setattr(tool, "FIGURES", (replace(figure, needs="fonts"),))
    assert tool.main([]) == 0
    assert "one: cannot be made without fonts; page.md says" in capsys.readouterr().out
    assert tool.OLDER in page.read_text()
    (tmp_path / "fonts").mkdir()
    assert tool.main([]) == 0
    assert tool.OLDER not in page.read_text()


def test_a_page_has_one_place_for_a_figure(tool: ModuleType, figure) -> None:
    with pytest.raises(ValueError, match=r"page\.md has 0 places for the figure 'one'"):
        tool.place(figure, "no figure")
    with pytest.raises(ValueError, match="no stamp"):
        tool.Stamp.read("*yesterday*")
