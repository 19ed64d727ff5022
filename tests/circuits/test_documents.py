"""Tables of docs/circuits.md on the built-in models: made by one command, of the weights that are there today."""

import re
from pathlib import Path

import pytest
from safetensors.numpy import load_file, save_file

from flowgression.sampling.folders import find_folder
from tests.scripts import ROOT, load_script

ROW = re.compile(r"^\| ([\w-]+)(?: \([\d.]+\))? \|.*\| `([0-9a-f]{12})` \|$", re.MULTILINE)


def table(text: str, name: str) -> str:
    """What stands between the two comments of a table."""
    (found,) = re.findall(rf"<!-- circuit_models.py {name} -->\n(.*?)<!-- end -->", text, re.DOTALL)
    return found


@pytest.mark.parametrize("name", ["precision", "counts"])
def test_figures_are_of_the_weights_of_today(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("benchmarks/circuit_models.py", monkeypatch)
    stamped = dict(ROW.findall(table((ROOT / "docs/circuits.md").read_text(), name)))
    made = f"python benchmarks/circuit_models.py {name}"
    assert stamped == {each: script.weights_digest(each) for each in script.BUILT_IN}, f"make the table anew: {made}"


def test_a_digest_is_that_of_the_weights(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("benchmarks/circuit_models.py", monkeypatch)
    source, copy = find_folder("sit-mnist"), tmp_path / "model"
    name = "transformer/diffusion_pytorch_model.safetensors"
    (copy / "transformer").mkdir(parents=True)
    (copy / "model_index.json").write_bytes((source / "model_index.json").read_bytes())
    (copy / name).write_bytes((source / name).read_bytes())
    assert script.weights_digest(str(copy)) == script.weights_digest("sit-mnist")
    weights = load_file(copy / name)
    next(iter(weights.values())).flat[0] += 1
    save_file(weights, copy / name)
    assert script.weights_digest(str(copy)) != script.weights_digest("sit-mnist")


def test_a_table_is_put_in_its_place(monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("benchmarks/circuit_models.py", monkeypatch)
    text = "before\n<!-- circuit_models.py counts -->\nold\n<!-- end -->\nafter\n<!-- end -->\n"
    once = script.with_table(text, "counts", ["| a |", "|---|"])
    assert table(once, "counts") == "\n| a |\n|---|\n\n"
    assert once.startswith("before\n")
    assert once.endswith("\nafter\n<!-- end -->\n")
    assert script.with_table(once, "counts", ["| a |", "|---|"]) == once
    with pytest.raises(AssertionError, match="no place for the table 'sizes'"):
        script.with_table(text, "sizes", [])
