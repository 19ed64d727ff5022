"""A study that several processes work on, and one whose results were written by an earlier version."""

import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from filelock import FileLock

from flowgression import InputError, devices
from flowgression.cli.main import main
from flowgression.cli.study import shipped_studies
from flowgression.devices import take_gpu
from flowgression.models import find_family
from flowgression.sampling.options import make_options
from flowgression.study import read_study, run, run_study, work
from flowgression.study.claims import claim, claim_if_free
from flowgression.study.grid import Grid, Point
from flowgression.study.run import check_points, launched_alone, was_measured
from flowgression.study.work import do_unit, finished, point_path, same_training, units

Study = Callable[..., Path]
CONFIGS = Path(__file__).parents[2] / "configs"


def silent(text: str) -> None:
    pass


def test_a_claim_is_of_one_process_and_ends_with_it(tmp_path: Path) -> None:
    path = tmp_path / "new" / "a.json"
    with claim_if_free(path) as mine:
        assert mine
        with claim_if_free(path) as other:
            assert not other
        with claim(tmp_path / "b.json"):
            pass
    if os.fork() == 0:  # a process that dies with the lock in its hands
        FileLock(f"{path}.lock").acquire()
        os._exit(0)
    os.wait()
    with claim_if_free(path) as mine:
        assert mine


def test_a_file_system_without_locks_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def acquire(self: FileLock, timeout: float) -> None:
        raise NotImplementedError("flock")

    monkeypatch.setattr(FileLock, "acquire", acquire)
    for one in (claim, claim_if_free):
        with pytest.raises(InputError, match=r"has no locks .* choose another --out"), one(tmp_path / "a.json"):
            pass


def test_what_another_process_is_at_is_left_to_it(tiny_study: Study) -> None:
    config = read_study(tiny_study())
    sit, arflow = units(config, {})
    one, two = config.points("SiT")
    with claim(config.run_folder("SiT", 0)):
        assert not do_unit(config, sit, silent)  # being trained elsewhere
        assert do_unit(config, arflow, silent)
    with claim(point_path(config, sit, one, ".json")):
        assert do_unit(config, sit, silent)
        assert [finished(config, sit, point) is not None for point in (one, two)] == [False, True]
        assert not do_unit(config, sit, silent)
    assert do_unit(config, sit, silent)
    assert not do_unit(config, sit, silent)
    assert run.is_done(config, sit)


def test_who_finds_nothing_to_do_waits_for_the_others(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    """The last point is at another process, which finishes while this one waits."""
    config = read_study(tiny_study())
    sit, arflow = units(config, {})
    do_unit(config, sit, silent)
    taken = FileLock(f"{config.run_folder('ARFlow, S = 3', 0)}.lock")
    taken.acquire()
    waits = []

    def finish_elsewhere(seconds: float) -> None:
        waits.append(seconds)
        taken.release()
        do_unit(config, arflow, silent)

    monkeypatch.setattr(run.time, "sleep", finish_elsewhere)
    run.work_through(config, [sit, arflow], silent)
    assert waits == [run.WAIT_SECONDS]
    assert run.is_done(config, arflow)


def test_results_outlive_new_fields(tiny_study: Study) -> None:
    """Results of a version that lacked some fields count as finished, unless the study sets these fields."""
    path = tiny_study()
    config = read_study(path)
    run_study(config, silent)
    points = sorted((Path(config.out) / "cells").rglob("*.json"))
    records = sorted((Path(config.out) / "runs").rglob("trained.json"))
    assert (len(points), len(records)) == (4, 2)
    for each in points:
        content = json.loads(each.read_text())
        train = content["settings"]["train"]
        del train["lora"], train["path"], train["schedule"]["final_factor"], content["settings"]["dtype"]
        content["settings"]["cell"] = {
            name: content["settings"]["cell"][name] for name in ("solver", "num_inference_steps", "guidance_scale")
        }
        each.write_text(json.dumps(content))
    for each in records:
        content = json.loads(each.read_text())
        del content["config"]["lora"], content["config"]["ema"]["warmup"]
        each.write_text(json.dumps(content))
    times = [each.stat().st_mtime_ns for each in points + records]
    assert "Unfinished" not in run_study(config, silent).read_text()
    assert times == [each.stat().st_mtime_ns for each in points + records]
    unit, point = units(config, {})[0], config.main_point
    assert finished(config, unit, point) is not None
    # What does not decide the numbers may change; what does may not, whether the old file names it or not.
    for changes in ({"tracker": "tensorboard"}, {"checkpoint_every": 7}, {"device": "auto"}):
        assert finished(replace(config, train={**config.train, **changes}), unit, point) is not None
    for changes in ({"path": "gvp"}, {"max_steps": 3}, {"schedule": {"final_factor": 0.5}}):
        assert finished(replace(config, train={**config.train, **changes}), unit, point) is None
    for changes in ({"dtype": "bfloat16"}, {"num_images": 13}):
        assert finished(replace(config, **changes), unit, point) is None


def test_training_of_another_version_is_another_one() -> None:
    assert same_training({"seed": 0}, {})
    assert not same_training({"seed": 1}, {})
    assert not same_training({"forgotten": 1}, {})
    assert not same_training("sit-mnist", {})


def test_measured_steps_outlive_new_fields(tiny_study: Study, monkeypatch: pytest.MonkeyPatch) -> None:
    config = read_study(tiny_study(equal=["time"], time_seconds=1.0))
    monkeypatch.setattr(run, "step_seconds", lambda settings: 0.5)
    assert run.equal_time_steps(config, silent)["SiT"] == 2
    path = Path(config.out) / "steps.json"
    record = json.loads(path.read_text())["SiT"]
    del record["asked"][0]["lora"]
    settings = config.train_config("SiT", 0)
    assert settings is not None
    assert was_measured(record, settings, 1.0)
    assert not was_measured(record, settings, 2.0)
    assert not was_measured(record, replace(settings, seed=1), 1.0)


def test_grids_vary_guidance_and_times(tiny_study: Study) -> None:
    grid = Grid(
        num_inference_steps=[1], guidance_scale=[2], guidance_interval=[None, [0.1, 1]], guided_channels=[1, None]
    )
    assert [point.name for point in grid.points()] == [
        "euler-1-guidance-2-channels-1", "euler-1-guidance-2-from-0.1-to-1-channels-1", "euler-1-guidance-2",
        "euler-1-guidance-2-from-0.1-to-1",
    ]  # fmt: skip
    assert grid.points()[1].describe() == "1 steps, euler, guidance 2 for t in [0.1, 1], 1 guided channels"
    assert grid.points()[1].call() == {
        "num_inference_steps": 1, "guidance_scale": 2.0, "solver": "euler", "guidance_interval": (0.1, 1.0),
        "guided_channels": 1,
    }  # fmt: skip
    past = Grid(num_inference_steps=[1], history=[None, "last:2"]).points()
    assert [point.name for point in past] == ["euler-1-guidance-1.5", "euler-1-guidance-1.5-history-last-2"]
    assert past[1].call()["history"] == "last:2"
    old = Point.of(num_inference_steps=8, guidance_scale=1.5, solver="heun")  # finished points keep their files
    assert (old.name, old.describe()) == ("heun-8-guidance-1.5", "8 steps, heun, guidance 1.5")
    everything = {
        "num_inference_steps": [2],
        "guidance_interval": [[0, 0.4]],
        "guided_channels": [1],
        "models": ["SiT"],
    }
    config = read_study(tiny_study(grids=[everything]))
    check_points(config)
    do_unit(config, units(config, {})[0], silent)
    report = finished(config, units(config, {})[0], config.main_point)
    assert report is not None
    assert report["samples_record"]["guidance_interval"] == [0, 0.4]
    assert report["samples_record"]["guided_channels"] == 1


@pytest.mark.parametrize(
    ("grid", "message"),
    [
        ({"time_grid": ["released"]}, "SiT, .*released times: .*option 'time_grid'"),
        ({"solver": ["eulr"]}, "SiT, .*did you mean 'euler'"),
        ({"time_grid": ["relased"]}, "time_grid 'relased' is unknown; did you mean 'released'"),
        ({"guidance_interval": [[0.9, 0.1]]}, r"guidance_interval \[0.9, 0.1\] must be two rising times"),
        ({"guidance_interval": [0.9]}, "guidance_interval=.* must be a list"),
        ({"guided_channels": [0]}, "guided_channels 0 must be one or more"),
        ({"history": ["last:0"]}, r"history must be all, none, every:K .* not 'last:0'"),
        ({"history": ["every:2"], "models": ["SiT"]}, "SiT, .*history every:2: option 'history' is of ARFlow"),
    ],
)
def test_points_that_cannot_work_are_refused_first(tiny_study: Study, grid: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        check_points(read_study(tiny_study(grids=[{"num_inference_steps": [1], **grid}])))


def test_models_and_features_are_placed_on_the_device(tiny_study: Study) -> None:
    config = read_study(tiny_study(), device="cpu")
    pipe = work.load_model(replace(config, dtype="bfloat16"), "sit-mnist")
    assert (pipe.transformer.dtype, pipe.device) == (torch.bfloat16, torch.device("cpu"))
    assert work.load_features(config).device == torch.device("cpu")
    assert config.train_config("SiT", 0).device == "cpu"
    inherited = replace(config, device="mps", train={**config.train, "device": "auto"})
    assert inherited.train_config("SiT", 0).device == "auto"  # the training says otherwise
    del inherited.train["device"]
    assert inherited.train_config("SiT", 0).device == "mps"
    with pytest.raises(InputError, match="this machine has no device 'mps'"):
        work.load_features(inherited)


def test_each_process_takes_its_own_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    take_gpu(3)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == ""
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 4)
    take_gpu(6)
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "2"
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "5, 7")
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    for name, value in {"WORLD_SIZE": "2", "RANK": "3", "LOCAL_RANK": "1", "MASTER_PORT": "1"}.items():
        monkeypatch.setenv(name, value)
    launched_alone()
    assert os.environ["CUDA_VISIBLE_DEVICES"] == "7"
    assert not {"WORLD_SIZE", "RANK", "LOCAL_RANK", "MASTER_PORT"} & os.environ.keys()
    monkeypatch.setattr(devices, "take_gpu", None)
    launched_alone()  # alone already


def test_only_some_models(tiny_study: Study, capsys: pytest.CaptureFixture[str]) -> None:
    path = str(tiny_study())
    assert main(["study", path, "--only", "SiT"]) == 0
    report = Path(read_study(Path(path)).out) / "report.md"
    assert "Unfinished: 2 points" in report.read_text()
    assert main(["study", path, "--only", "SIT"]) == 2
    assert "no model 'SIT' in this study; did you mean 'SiT'" in capsys.readouterr().err


def test_a_model_that_is_not_there_is_missed_first(tiny_study: Study, tmp_path: Path) -> None:
    models = {"there": {"pipeline": "sit-mnist"}, "gone": {"pipeline": str(tmp_path / "runs" / "gone" / "pipeline")}}
    config = read_study(tiny_study(models=models, reference="mnist:test[:9]", image_size=28))
    with pytest.raises(InputError, match=r"gone: no model .* --only works on the models that are there"):
        run_study(config, silent)
    run.check_taken(config, ["there"])


def test_precision_of_products_holds_for_sampling_only(tiny_study: Study) -> None:
    config = read_study(tiny_study(dtype="tf32"))
    before = torch.get_float32_matmul_precision()
    for device, expected in (("cuda", "high"), ("cpu", before)):
        with work.matrix_products(config, torch.device(device)):
            assert torch.get_float32_matmul_precision() == expected
        assert torch.get_float32_matmul_precision() == before


def published() -> dict[tuple[str, str, float], float]:
    """The figures of the papers' tables by study, model and guidance scale, as docs/papers.md lists them."""
    flowar = {"FlowAR-S": (4.3, 3.61), "FlowAR-B": (2.4, 2.90), "FlowAR-L": (2.4, 1.90), "FlowAR-H": (2.4, 1.65)}
    return {
        ("study-imagenet128", "ARFlow-XL/2", 1.0): 14.08,
        ("study-imagenet128", "ARFlow-XL/2", 1.5): 4.34,
        ("study-imagenet128", "SiT-XL/2", 1.5): 9.17,
        ("study-imagenet256", "ARFlow-XL/2", 1.0): 6.63,
        ("study-imagenet256", "ARFlow-XL/2", 1.5): 1.96,
        ("study-imagenet256", "SiT-XL/2", 1.5): 2.06,
        **{("study-imagenet256", model, scale): fid for model, (scale, fid) in flowar.items()},
    }


def test_the_imagenet_studies_judge_every_recipe_against_the_papers() -> None:
    found, judged = {}, set()
    for name in ("study-imagenet128", "study-imagenet256"):
        config = read_study(shipped_studies()[name])
        for target in config.targets:
            found[name, target.model, target.guidance_scale] = target.fid
            assert target.guidance_scale in [point["guidance_scale"] for point in config.points(target.model)]
        for model, settings in config.models.items():
            recipe = Path(settings["pipeline"]).parent.name
            judged.add(recipe)
            trained = yaml.safe_load((CONFIGS / f"{recipe}.yaml").read_text())
            assert settings["pipeline"] == f"{trained['out']}/pipeline"
            options = find_family(trained["model"]["family"]).pipeline_class.options_class
            for point in config.points(model):
                make_options(options, point.call())
                assert f"{name[6:]}-" in recipe
    assert found == published()
    assert judged == {path.stem for path in CONFIGS.glob("[!s]*-imagenet*.yaml")} | {
        f"sit-imagenet{size}-xl" for size in (128, 256)
    }


@pytest.mark.slow
def test_processes_of_a_launcher_share_a_study(tiny_study: Study, launch: Callable[..., Any]) -> None:
    path = tiny_study(seeds=[0, 1])
    group = launch(["study", path], count=2)
    assert group.wait() == [0, 0], group.output()
    report = Path(read_study(path).out) / "report.md"
    assert "Unfinished" not in report.read_text()
    points = [line for line in group.output().splitlines() if ": FID" in line]
    assert len(points) == len(set(points)) == 8  # each by one of them
    assert group.output().count("trained in") == 4
