"""What is chosen for a folder of pictures: by their number, size and colours, and by the speed of the machine."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from flowgression import InputError, TrainConfig
from flowgression.cli.main import main as command
from flowgression.cli.train import chosen_values, parse
from flowgression.data import DataConfig
from flowgression.training import automatic, config_from_dict
from flowgression.training.automatic import choose, measured_speed


def pictures(folder: Path, counts: dict[str, int], side: int = 40, mode: str = "RGB") -> Path:
    generator = np.random.default_rng(0)
    for name, count in counts.items():
        (folder / name).mkdir(parents=True)
        for index in range(count):
            pixels = generator.integers(0, 255, (side, side, 3), dtype=np.uint8)
            Image.fromarray(pixels).convert(mode).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture
def speed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(automatic, "measured_speed", lambda family, args, clock: 5e10)


def test_sizes_follow_the_pictures_and_the_time(tmp_path: Path, speed: None) -> None:
    small = DataConfig(str(pictures(tmp_path / "small", {"a": 3, "b": 2})))
    large = DataConfig(str(pictures(tmp_path / "large", {"a": 3, "b": 2}, side=90)))
    own = DataConfig(str(pictures(tmp_path / "own", {"a": 3}, side=24)))
    found = [
        (values["data"]["image_size"], values["model"]["args"]["patch_size"])
        for data, minutes in ((small, 60), (large, 5), (large, 60), (own, 60))
        for values in [choose(data, minutes).values]
    ]
    assert found == [(32, 8), (32, 8), (64, 8), (24, 6)]


def test_networks_grow_with_the_time_but_not_for_few_pictures(tmp_path: Path, speed: None) -> None:
    few = DataConfig(str(pictures(tmp_path / "few", {"a": 3})))
    many = DataConfig(str(pictures(tmp_path / "many", {"a": 301}, side=8)))
    widths = [choose(many, minutes).values["model"]["args"]["hidden_size"] for minutes in (5, 100, 100_000)]
    assert widths == sorted(widths)
    assert widths[0] == 128
    assert widths[2] == 384
    assert choose(few, 100_000).values["model"]["args"]["hidden_size"] == 128


def test_short_runs_warm_up_for_a_tenth_of_their_steps(tmp_path: Path, speed: None) -> None:
    data = DataConfig(str(pictures(tmp_path / "set", {"a": 3}, side=8)))
    short, long = (choose(data, minutes).values["schedule"]["warmup_steps"] for minutes in (0.01, 100))
    assert short < 20
    assert long == 100


def test_classes_counts_and_the_danger_of_few_pictures_are_said(tmp_path: Path, speed: None) -> None:
    data = DataConfig(str(pictures(tmp_path / "set", {"cat": 3, "dog": 2}, mode="L")))
    choice = choose(data, 10)
    said = "\n".join(choice.reasons)
    assert "5 grey images" in said
    assert "cat 3, dog 2" in said
    assert "by heart" in said
    assert choice.values["data"]["channels"] == 1


def test_few_pictures_are_augmented_and_of_many_some_are_held_out(tmp_path: Path, speed: None) -> None:
    found = []
    for count in (3, 310, 410, 1010):
        values = choose(DataConfig(str(pictures(tmp_path / str(count), {"a": count}, side=8))), 10).values
        data = values["data"]
        found.append((values["model"]["args"].get("dropout", 0), data["augment"], data["validation"]))
    assert found == [(0.1, 0.15, 0.0), (0, 0.15, 0.0), (0, 0.15, 0.05), (0, 0.0, 0.05)]


def test_every_choice_can_be_overridden_and_is_a_configuration(
    tmp_path: Path, speed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = str(pictures(tmp_path / "set", {"cat": 3, "dog": 2}))
    argv = ["--data.path", folder, "--minutes", "3", "--batch-size", "8", "--model.args.depth", "2"]
    values = chosen_values(argv, parse(argv), resume=False)
    assert "given instead of what is chosen: batch_size, model.args.depth;" in capsys.readouterr().out
    config = config_from_dict(TrainConfig, values)
    assert config.minutes == 3
    assert config.batch_size == 8
    assert config.model.args["depth"] == 2
    assert config.model.args["prediction_type"] == "sample"
    assert config.optimizer.name == "muon"
    assert config.out == "runs/set"


def test_without_pictures_nothing_is_chosen(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert command(["train", "--minutes", "1"]) == 2
    assert "--data.path" in capsys.readouterr().err
    with pytest.raises(InputError, match="neither mnist nor an existing folder"):
        choose(DataConfig(str(tmp_path / "nowhere")), 1)


def test_the_speed_is_measured() -> None:
    values = automatic.recipe()
    args = values["model"]["args"] | {"sample_size": 8, "in_channels": 1, "num_classes": 1, "patch_size": 4}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(automatic, "CALIBRATION", 0.05)
        assert 1e7 < measured_speed(values["model"]["family"], args) < 1e14


def test_two_flags_train_a_model_and_resume_takes_the_same_choice(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speed: None, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = pictures(tmp_path / "set", {"cat": 6, "dog": 6}, side=8)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(automatic, "SIZES", ((32, 1),))
    argv = ["train", "--data.path", str(folder), "--minutes", "0.02", "--batch-size", "4", "--tracker", "none"]
    assert command(argv) == 0
    saved = yaml.safe_load((tmp_path / "runs/set/config.yaml").read_text())
    assert saved["model"]["args"]["hidden_size"] == 32
    assert (tmp_path / "runs/set/pipeline/model_index.json").is_file()
    assert list((tmp_path / "runs/set/samples").iterdir())
    assert "of 32 samples are nearer to a training image than" in capsys.readouterr().out
    assert (tmp_path / "runs/set/nearest.png").is_file()
    monkeypatch.setattr(automatic, "SIZES", ((64, 1),))  # as if the machine were faster now
    assert command([*argv, "--resume"]) == 0
