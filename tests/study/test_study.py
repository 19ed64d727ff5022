"""`flowgression study`: report, resuming after a kill, what is repeated after a change, mistakes."""

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowgression import InputError, flops
from flowgression.cli.main import main
from flowgression.cli.study import shipped_studies
from flowgression.study import StudyConfig, read_study, run, run_study, work
from flowgression.study.config import slug
from flowgression.study.grid import Grid, Point
from flowgression.study.recount import recount
from flowgression.study.run import check_images, check_parameters, step_seconds


def silent(text: str) -> None:
    pass


def test_a_study_goes_on_where_it_was_killed(
    tiny_study: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    targets = [
        {"model": "SiT", "guidance_scale": 1.5, "fid": 12.5, "source": "a paper"},
        {"model": "SiT", "guidance_scale": 4.0, "fid": 3, "source": "another"},
    ]
    config = read_study(tiny_study(real="mnist:test[60:90]", targets=targets))
    judge, trained = work.judge, work.train
    done: list[tuple[str, str]] = []
    trainings: list[str] = []

    def judge_and_die(config: Any, unit: work.Unit, point: Point, pipe: Any) -> dict[str, Any]:
        if len(done) == 1:
            raise KeyboardInterrupt
        done.append((unit.model, point.name))
        return judge(config, unit, point, pipe)

    def count_training(settings: Any, **options: Any) -> Any:
        trainings.append(settings.out)
        return trained(settings, **options)

    monkeypatch.setattr(work, "train", count_training)
    monkeypatch.setattr(work, "judge", judge_and_die)
    with pytest.raises(KeyboardInterrupt):
        run_study(config, silent)
    assert len(trainings) == 1
    monkeypatch.setattr(work, "judge", lambda *args: done.append((args[1].model, args[2].name)) or judge(*args))
    report = run_study(config, silent)
    assert len(trainings) == 2  # each model once in all
    assert len(done) == len(set(done)) == 4  # each point once in all
    before = {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("euler*.json")}
    assert len(before) == 4
    run_study(config, silent)
    assert len(done) == 4
    assert before == {path: path.stat().st_mtime_ns for path in (tmp_path / "out").rglob("euler*.json")}
    check_report(report)
    check_recount(config, sorted(before))
    # A change of what is compared repeats the points, not the training.
    run_study(read_study(tiny_study(real="mnist:test[60:90]", num_images=10)), silent)
    assert (len(trainings), len(done)) == (2, 8)
    # A change of the training is refused: it would mix two studies.
    longer = read_study(tiny_study(), train={**config.train, "max_steps": 3})
    with pytest.raises(InputError, match="was trained with other settings; choose another out"):
        run_study(longer, silent)


def check_report(report: Path) -> None:
    text = report.read_text()
    assert "# Tiny" in text
    assert "Unfinished" not in text
    for name in ("SiT", "ARFlow, S = 3"):
        # Sizes, main point, best point, two points, and two published figures of SiT.
        assert text.count(f"| {name} |") == (7 if name == "SiT" else 5)
    assert r"real: mnist:test\[60:90\] (30 images)" in text
    rows = list(csv.DictReader((report.parent / "results.csv").open()))
    best = min(float(row["fid"]) for row in rows if row["model"] == "SiT")
    assert f"| SiT | 1.5 | 12.5 | {best:.3g} | " in text
    assert "| SiT | 4 | 3 | not run |  | another |" in text
    assert read_study(report.parent / "study.yaml").targets[1].source == "another"
    for line in text.splitlines():
        if line.startswith("!["):
            assert (report.parent / line.partition("(")[2].rstrip(")")).read_bytes().startswith(b"\x89PNG")
    assert "fid-steps.png" in text
    assert [(row["model"], row["num_inference_steps"]) for row in rows] == [
        ("SiT", "1"), ("SiT", "2"), ("ARFlow, S = 3", "1"), ("ARFlow, S = 3", "2")
    ]  # fmt: skip
    assert all(float(row["fid"]) > 0 and float(row["cost_flops_per_image"]) > 0 for row in rows)


def check_recount(config: StudyConfig, points: list[Path]) -> None:
    """FLOPs of a counter of another version are replaced by today's; nothing else changes."""
    written = {path: json.loads(path.read_text()) for path in points}
    for path, content in written.items():
        path.write_text(json.dumps(content | {"cost_flops_per_image": 1.0, "cost_flop_counter": flops.VERSION - 1}))
    assert recount(config, {}) == len(points)
    assert {path: json.loads(path.read_text()) for path in points} == written
    assert recount(config, {}) == 0


@pytest.mark.slow
def test_a_study_in_processes_with_a_model_taken_as_it_is(
    tiny_study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    models = {"ready": {"pipeline": "sit-mnist"}}
    path = tiny_study(models=models, seeds=[0, 1], image_size=28, num_images=4, grids=[{"num_inference_steps": [1]}])
    assert main(["study", str(path), "--jobs", "2", "--out", str(tmp_path / "other")]) == 0
    assert "wrote" in capsys.readouterr().out
    points = list((tmp_path / "other" / "cells").rglob("*.json"))
    assert len(points) == 1  # not trained here, so further seeds would say nothing new
    report = json.loads(points[0].read_text())
    assert report["settings"]["train"] == "sit-mnist"
    assert report["samples_record"]["num_inference_steps"] == 1


def test_plan_and_report_of_an_unfinished_study(
    tiny_study: Callable[..., Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tiny_study()
    assert main(["study", str(path), "--plan"]) == 0
    assert "ARFlow, S = 3: 12,304 parameters, 12 training images; 2 points of 3 steps" in capsys.readouterr().out
    assert main(["study", str(path), "--report-only"]) == 0
    assert "Unfinished: 4 points" in (tmp_path / "out" / "report.md").read_text()


def test_points_of_several_grids_are_done_once(tiny_study: Callable[..., Path]) -> None:
    grids = [
        {"num_inference_steps": [4, 2]},
        {"num_inference_steps": [4], "guidance_scale": [1.0, 1.5]},
        {"num_inference_steps": [8], "solver": ["heun"], "models": ["SiT"]},
    ]
    config = read_study(tiny_study(grids=grids))
    assert config.main_point == Point.of(num_inference_steps=4, guidance_scale=1.5, solver="euler")
    assert [point.name for point in config.points("SiT")] == [
        "euler-4-guidance-1.5", "euler-2-guidance-1.5", "euler-4-guidance-1", "heun-8-guidance-1.5"
    ]  # fmt: skip
    assert len(config.points("ARFlow, S = 3")) == 3
    assert len(Grid(num_inference_steps=[1, 2], guidance_scale=[1, 2], solver=["euler", "heun"]).points()) == 8


def test_what_must_be_equal_is_checked(tiny_study: Callable[..., Path]) -> None:
    config = read_study(tiny_study())
    check_images(config)
    check_parameters(config)
    models = {name: dict(values) for name, values in config.models.items()}
    models["SiT"]["max_steps"] = 5
    with pytest.raises(InputError, match=r"equal: images, but .* SiT 30, ARFlow, S = 3 12"):
        check_images(read_study(tiny_study(models=models)))
    models["SiT"]["model"] = {"family": "sit", "args": {**models["SiT"]["model"]["args"], "hidden_size": 32}}
    with pytest.raises(InputError, match=r"equal: parameters, but SiT.* more than 10% from the median"):
        check_parameters(read_study(tiny_study(models=models)))


def test_equal_time_measures_the_steps_once(
    tiny_study: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    config = read_study(tiny_study(equal=["time"], time_seconds=1.2))
    calls = []
    monkeypatch.setattr(run, "step_seconds", lambda settings: calls.append(settings.model.family) or 0.4)
    steps = run.equal_time_steps(config, silent)
    assert steps == {"SiT": 3, "ARFlow, S = 3": 3}
    assert run.equal_time_steps(config, silent) == steps
    assert calls == ["sit", "arflow"]
    assert config.train_config("SiT", 0, steps["SiT"]).max_steps == 3
    assert step_seconds(config.train_config("SiT", 0)) > 0


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"modles": {}}, "unknown key modles; did you mean 'models'"),
        ({"models": {}}, "a study needs models"),
        ({"seeds": [1, 1]}, "seeds=.* different numbers"),
        ({"equal": ["time"]}, "equal: time needs time_seconds"),
        ({"equal": ["parameter"]}, "did you mean 'parameters'"),
        ({"groups": {"a": ["SIT"]}}, "no model 'SIT' in this study; did you mean 'SiT'"),
        ({"targets": [{"model": "SIT", "guidance_scale": 1, "fid": 1, "source": ""}]}, "no model 'SIT' in this study"),
        ({"targets": [{"model": "SiT", "fid": 1, "source": ""}]}, "targets: .*guidance_scale"),
        ({"grids": [{"steps": [1]}]}, "grids: unknown key steps; Known: num_inference_steps"),
        ({"train": {"batch_size": 7}}, "model 'ARFlow, S = 3' of the study: batch_size=7 counts images"),
        (
            {"train": {"optimizer": {"learning_rate": 1}}},
            "model 'SiT' of the study: unknown key optimizer.learning_rate",
        ),
        ({"num_images": 0}, "num_images=0 must be one or more"),
    ],
)
def test_mistakes_are_named(tiny_study: Callable[..., Path], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        read_study(tiny_study(**changes))


@pytest.mark.parametrize("name", sorted(shipped_studies()))
def test_shipped_studies_are_valid(name: str, tmp_path: Path) -> None:
    config = read_study(shipped_studies()[name], out=str(tmp_path))
    check_images(config)
    check_parameters(config)
    assert slug("ARFlow hybrid, S = 5") == "arflow-hybrid-s-5"
    folders = {config.run_folder(model, seed) for model in config.models for seed in config.seeds}
    assert len(folders) == len(config.models) * len(config.seeds)


def test_names_in_a_report_are_text(
    command: Callable[..., Any], tiny_study: Callable[..., Path], tmp_path: Path
) -> None:
    """A study whose title, models and reference hold HTML, Markdown and orders to the terminal."""
    evil = "<img src=x onerror=alert(1)> [a](javascript:b)\n# x\x1b[2J | `b`"
    size = {"patch_size": 8, "hidden_size": 16, "depth": 1, "num_heads": 2}
    models = {evil: {"sequence_length": 1, "model": {"family": "sit", "args": size}}}
    path = tiny_study(title=evil, models=models)
    planned = command("study", path, "--plan")
    assert planned.status == 0
    assert "\x1b" not in planned.out
    assert len(planned.out.splitlines()) == 2
    assert command("study", path, "--report-only").status == 0
    report = (tmp_path / "out" / "report.md").read_text()
    assert "&lt;img src=x" in report
    for order in ("<img", "[a](javascript", "\x1b", "\n# x", " | `b`"):
        assert order not in report
