"""benchmarks/machines.py, benchmarks/peers.py and benchmarks/pictures.py in small."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from tests.scripts import ROOT, load_script


def test_the_table_of_machines_is_whole_and_judges_muon(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    machines = load_script("benchmarks/machines.py", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["machines.py", "--quick"])
    assert machines.main() == 0
    shown = capsys.readouterr().out
    for row in ("float32 products", "bfloat16 products", "Muon multiplies in", "with AdamW", "drawing in", "logits"):
        assert row in shown
    monkeypatch.setattr(sys, "argv", ["machines.py"])
    for ratio, status in ((1.2, 0), (1.3, 1)):
        monkeypatch.setattr(machines, "measure", lambda quick, ratio=ratio: {"step with Muon / with AdamW": ratio})
        assert machines.main() == status


def test_peers_do_the_same_work_in_turn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = load_script("benchmarks/peers.py", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["peers.py", "--quick", "--batch", "2", "--json", str(tmp_path / "out.json")])
    assert peers.main() == 0
    shown = capsys.readouterr().out
    rows = (
        "| diffusers DiT | training step |",
        "| diffusers DiT | sampling |",
        "no --sit CHECKOUT",
        "no --flowar CHECKOUT",
    )
    for row in rows:
        assert row in shown
    monkeypatch.setattr(sys, "argv", ["peers.py", "--quick", "--batch", "2", "--only", "FlowAR"])
    assert peers.main() == 0
    only = capsys.readouterr().out
    assert "FlowAR" in only
    assert "diffusers" not in only
    assert all(row["seconds"]["theirs"] > 0 for row in json.loads((tmp_path / "out.json").read_text())["rows"])
    calls: list[str] = []
    found = peers.in_turn({name: lambda name=name: calls.append(name) for name in ("theirs", "ours")}, 2)
    assert calls == ["theirs", "ours"] * 3
    assert set(found) == {"theirs", "ours"}


def test_a_plain_loop_draws_what_the_library_draws_and_costs_are_printed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    peers = load_script("benchmarks/peers.py", monkeypatch)
    monkeypatch.setattr(sys, "argv", ["peers.py", "--quick", "--fid", "20"])
    assert peers.main() == 0
    rows = [line.strip("| ").split(" | ") for line in capsys.readouterr().out.splitlines() if line.startswith("| ")][1:]
    found = {(name, int(steps)): (float(fid), float(ms)) for name, steps, fid, ms in rows}
    for steps in (1, 2, 4):  # the same weights, noise and steps: the same images but for rounding to a grey level
        assert found["plain loop", steps][0] == pytest.approx(found["ours, Euler", steps][0], rel=0.02)
    assert found["ours, guided from time 0.4 on", 4][0] != found["ours, Euler", 4][0]
    assert {("ours, `sit-mnist-meanflow`", 1), ("ours, `sit-mnist-meanflow`", 2)} < set(found)
    assert all(ms > 0 for _, ms in found.values())


def test_networks_are_compared_on_pictures_that_none_has_seen(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pictures = load_script("benchmarks/pictures.py", monkeypatch)
    (tmp_path / "set" / "blue").mkdir(parents=True)
    generator = np.random.default_rng(0)
    for index in range(20):
        pixels = generator.integers(0, 255, (32, 32, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(tmp_path / "set" / "blue" / f"{index:02d}.png")
    trainer, rest = pictures.trainer_of(str(tmp_path / "set"), 32, 1.0, {})
    seen = {bytes(each) for each in trainer.dataset.pixels(range(len(trainer.dataset))).numpy()}
    assert (len(seen), len(rest)) == (18, 2)
    assert not seen & {bytes(each) for each in rest.pixels([0, 1]).numpy()}
    name = "image, patches of 8, seams smoothed"
    argv = ["pictures.py", str(tmp_path / "set"), "--minutes", "0.01", "--only", name, "--out", str(tmp_path / "out")]
    monkeypatch.setattr(sys, "argv", argv)
    assert pictures.main() == 0
    assert "held-out loss" in capsys.readouterr().out
    assert len(list((tmp_path / "out").iterdir())) == 1


def test_every_goal_of_speed_has_a_verdict_and_a_command() -> None:
    page = (ROOT / "docs" / "benchmarks" / "goals.md").read_text()
    rows = [
        [cell.strip() for cell in line.strip("|").split("|")] for line in page.splitlines() if line.startswith("| ")
    ]
    tests = "".join(path.read_text() for path in (ROOT / "tests").rglob("test_*.py"))
    makefile = (ROOT / "Makefile").read_text()
    assert len(rows) > 10
    for goal, reached, machine, verdict, command in rows[1:]:
        assert verdict.startswith(("met", "missed", "not measured")), goal
        assert bool(reached) == bool(machine) == (not verdict.startswith("not measured")), goal
        name = command.strip("`").split()
        if name[0] == "make":
            assert f"\n{name[1]}:" in makefile
        else:
            assert (ROOT / name[0]).is_file()
            assert Path(name[0]).stem in tests, f"no test runs {name[0]}"
