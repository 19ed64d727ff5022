"""From a FlowAR to a fine-tuned FastFlowAR by commands alone, and the criterion's command."""

import json
import shutil
from pathlib import Path

import pytest
import torch

from flowgression import FlowAR, load_pipeline, make_pipeline
from flowgression.cli.main import main
from flowgression.data.mnist import CLASS_NAMES


@pytest.fixture(scope="module")
def exact(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny FlowAR for the built-in digits, as a pipeline folder."""
    torch.manual_seed(0)
    sizes = {
        "hidden_size": 16,
        "encoder_depth": 1,
        "decoder_depth": 1,
        "num_heads": 2,
        "flow_width": 16,
        "flow_depth": 1,
    }
    model = FlowAR(sample_size=28, in_channels=1, patch_size=7, scales=(1, 2, 4), num_classes=10, **sizes)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    folder = tmp_path_factory.mktemp("models") / "exact"
    make_pipeline(model, id2label=dict(enumerate(CLASS_NAMES))).save_pretrained(folder)
    return folder


def test_convert_fine_tune_and_check(exact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    converted, tuned = tmp_path / "converted", tmp_path / "tuned"
    assert main(["lowrank", "--model", str(exact), "--num-images", "40", "--out", str(converted)]) == 0
    assert "cut at the bound" in capsys.readouterr().out
    before = load_pipeline(converted)
    assert before.transformer.config.attention == "lowrank"
    assert list(before.config.id2label.values()) == list(CLASS_NAMES)
    flags = ["--model.pretrained", str(converted), "--max_steps", "3", "--batch_size", "4", "--preview.every", "0"]
    flags += ["--tracker", "none", "--device", "cpu", "--out", str(tuned)]
    assert main(["train", "--config", "fastflowar-mnist-finetune", *flags]) == 0
    after = load_pipeline(tuned / "pipeline").transformer
    assert after.config.attention == "lowrank"
    moved = [
        name
        for name, value in after.state_dict().items()
        if not torch.equal(value, before.transformer.state_dict()[name])
    ]
    assert any("tau_logit" in name for name in moved)
    assert not any("centre" in name for name in moved)
    shutil.rmtree(converted)  # a run that goes on needs its checkpoint alone
    assert main(["train", "--config", "fastflowar-mnist-finetune", *flags, "--max_steps", "4", "--resume"]) == 0
    for name, value in after.state_dict().items():  # three small steps from where it started
        torch.testing.assert_close(value, before.transformer.state_dict()[name], rtol=0, atol=0.01)


def test_latent_space_and_other_files_survive(exact: Path, tmp_path: Path) -> None:
    pipe = load_pipeline(exact)
    space = {"scaling_factor": 0.5, "shift_factor": 0.0}
    make_pipeline(pipe.transformer, latent_space=space).save_pretrained(tmp_path / "latent")
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "notes.txt").write_text("mine")
    flags = ["--data", "random", "--num-images", "4", "--out", str(tmp_path / "out")]
    assert main(["lowrank", "--model", str(tmp_path / "latent"), *flags]) == 0
    assert (tmp_path / "out" / "notes.txt").read_text() == "mine"
    assert dict(load_pipeline(tmp_path / "out").config.latent_space) == space


def test_criterion_on_real_and_random_inputs(exact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    report, plot = tmp_path / "c.json", tmp_path / "c.png"
    flags = ["--num-images", "6", "--json", str(report), "--plot", str(plot), "--device", "cpu"]
    flags += ["--num-inference-steps", "2"]
    assert main(["criterion", "--model", str(exact), "--data", "mnist", *flags]) == 0
    assert "approximable" in capsys.readouterr().out
    found = json.loads(report.read_text())
    assert (found["data"], found["num_images"], found["num_read"], len(found["layers"])) == ("mnist", 6, 6, 3)
    assert found["verdict"].startswith(("Every attention", "3 of 3", "2 of 3", "1 of 3"))
    assert plot.stat().st_size > 5000
    assert main(["criterion", "--model", str(exact), "--data", "random", "--per-head", *flags[:2]]) == 0
    assert "head 1" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["criterion", "--model", "arflow-mnist"], "is a ARFlow"),
        (["criterion", "--model", "flowar-mnist", "--num-images", "0"], "--num-images"),
        (["criterion", "--model", "flowar-mnist", "--plot", "x.txt"], ".png"),
        (["criterion", "--model", "flowar:fsat-S"], "fast-S"),
        (["lowrank", "--model", "flowar-mnist", "--out", "x", "--degree", "3"], "even"),
        (["lowrank", "--model", "flowar-mnist", "--out", "x", "--max-tau", "0"], "out of range"),
    ],
)
def test_errors(arguments: list[str], message: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(arguments) == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--model.family", "arflow"], "model.family='arflow'"),
        (["--model.preset", "S"], "model.preset='S'"),
        (["--model.args", '{"hidden_size": 32}'], "has shape"),
        (["--model.pretrained", "flowar-mnits"], "flowar-mnist"),
        (["--model.args", '{"attention": "lowrank"}'], "flowgression lowrank"),
    ],
)
def test_pretrained_that_does_not_fit(
    flags: list[str], message: str, exact: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    base = ["--model.family", "flowar", "--model.pretrained", str(exact), "--sequence_length", "1", "--max_steps", "1"]
    base += ["--out", str(tmp_path / "run"), "--tracker", "none", "--device", "cpu", "--batch_size", "4"]
    assert main(["train", *base, *flags]) == 2
    assert message in capsys.readouterr().err
