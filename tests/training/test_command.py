"""`flowgression train`: flags, files and their errors."""

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import yaml

from flowgression import ARFlow, InputError, TrainConfig
from flowgression.cli.train import parse, run, shipped_configs
from flowgression.models import build_model
from flowgression.training import NonFiniteError, TrainResult, config_from_dict, config_to_dict


def config_of(*arguments: str) -> TrainConfig:
    values = parse(arguments)
    return config_from_dict(TrainConfig, {name: value for name, value in values.items() if name != "resume"})


def test_flags_win_over_the_file_and_the_file_over_defaults(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_text("seed: 3\nmax_steps: 50\nmodel:\n  family: sit\n  args: {depth: 2, hidden_size: 32}\n")
    config = config_of("--config", str(file), "--max-steps", "7", "--model.args.depth", "5", "--sequence-length=1")
    assert (config.seed, config.max_steps, config.batch_size) == (3, 7, 120)
    assert config.model.args == {"depth": 5, "hidden_size": 32}


def test_dashes_and_underscores_are_the_same() -> None:
    assert config_of("--checkpoint-every", "5", "--optimizer.clip-norm=2") == config_of(
        "--checkpoint_every", "5", "--optimizer.clip_norm", "2"
    )


def test_switches_need_no_value() -> None:
    assert config_of("--compile", "--seed", "1").compile is True
    assert config_of("--seed", "1", "--compile").compile is True
    assert config_of("--compile", "false").compile is False
    assert parse(["--resume"])["resume"] is True
    assert "resume" not in parse([])


def test_null_takes_clipping_off() -> None:
    assert config_of("--optimizer.clip_value", "null").optimizer.clip_value is None


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--max-step", "3"], r"unknown flag --max_step; did you mean --max_steps\?"),
        (["--lr", "3"], r"unknown flag --lr; did you mean --optimizer.lr\?"),
        (["--no.such.key", "1"], r"unknown flag --no.such.key; `flowgression train --help` lists them"),
        (["--", "1"], r"unknown flag --; `flowgression train --help` lists them"),
        (["--optimizer.lrr=3"], r"unknown flag --optimizer.lrr; did you mean --optimizer.lr\?"),
        (["--max-steps", "many"], r"max_steps.*Expected a <class 'int'>. Got value: many"),
        (["--precision", "fp8"], r"precision.*Expected.*fp32.*bf16.*Got value: fp8"),
        (["--max-steps"], r"--max_steps: expected one argument"),
        (["--config", "arflow-mnst"], r"'arflow-mnst' is neither a file.*did you mean 'arflow-mnist'"),
        (["--config"], r"--config: expected one argument"),
        (["stray"], r"stray"),
    ],
)
def test_a_wrong_flag_gives_one_clear_error(arguments: list[str], message: str) -> None:
    with pytest.raises(InputError, match=message) as error:
        parse(arguments)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("optimiser: {lr: 1}", r"c.yaml: unknown key optimiser; did you mean 'optimizer'"),
        ("optimizer: {rate: 1}", r"c.yaml: unknown key optimizer.rate"),
        ("seed: [", r"c.yaml is not YAML"),
        ("42", r"c.yaml must hold keys and values"),
        ("seed: first", r"seed='first' must be a whole number"),
    ],
)
def test_a_wrong_file_gives_one_clear_error(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "c.yaml").write_text(content)
    with pytest.raises(InputError, match=message) as error:
        config_of("--config", str(tmp_path / "c.yaml"))
    assert "\n" not in str(error.value)


def test_the_printed_configuration_is_one(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        parse(["--config", "arflow-mnist", "--seed", "9", "--print_config"])
    printed = tmp_path / "printed.yaml"
    printed.write_text(capsys.readouterr().out)
    assert config_of("--config", str(printed)) == config_of("--config", "arflow-mnist", "--seed", "9")


def test_help_names_every_section_and_comes_at_once() -> None:
    code = "import sys; from flowgression.cli.train import run; run(['--help'])"
    shown = subprocess.run([sys.executable, "-X", "importtime", "-c", code], capture_output=True, text=True, check=True)
    for text in ("--optimizer.lr", "--data.path", "--preview.every", "--resume", "arflow-mnist"):
        assert text in shown.stdout
    loaded = {line.rpartition("|")[2].strip() for line in shown.stderr.splitlines()}
    assert not loaded & {"torch", "numpy", "diffusers", "accelerate", "matplotlib"}


@pytest.mark.parametrize("name", sorted(shipped_configs()))
def test_every_shipped_configuration_is_valid(name: str) -> None:
    config = config_of("--config", name)
    assert Path(config.out).name == name
    args = {"sample_size": config.data.image_size or 28, **config.model.args}  # as the data would complete them
    with torch.device("meta"):
        model = build_model(config.model.family, config.model.preset, **args)
    assert config.sequence_length > 1 or not isinstance(model, ARFlow)


def test_the_built_in_models_have_one_recipe() -> None:
    """So that they can be compared: equally many images, one optimiser, one distribution of times."""
    names = ("arflow-mnist", "sit-mnist", "flowar-mnist", "fastflowar-mnist")
    first, *others = (config_of("--config", name) for name in names)
    for config in others:
        assert config.batch_size * config.max_steps == first.batch_size * first.max_steps
        assert (config.optimizer, config.times, config.schedule, config.ema) == (
            first.optimizer,
            first.times,
            first.schedule,
            first.ema,
        )


def test_a_run_from_the_command_line(
    tiny_config: Callable[..., TrainConfig], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(config_to_dict(tiny_config())))
    assert run(["--config", str(file), "--max-steps", "2"]) == 0
    assert f"flowgression sample --model {tmp_path / 'run' / 'pipeline'}" in capsys.readouterr().out
    with pytest.raises(InputError, match="--resume"):
        run(["--config", str(file)])
    assert run(["--config", str(file), "--max-steps", "4", "--resume"]) == 0
    assert "Trained 4 steps" in capsys.readouterr().out


def test_the_status_tells_why_a_run_ended(
    tiny_config: Callable[..., TrainConfig],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture,
) -> None:
    def not_finite(*arguments: object, **keywords: object) -> None:
        raise NonFiniteError("step 3: loss nan")

    monkeypatch.setattr("flowgression.training.loop.train", not_finite)
    assert run(["--model.family", "sit"]) == 1
    assert capsys.readouterr().err == "flowgression train: step 3: loss nan\n"

    stopped = TrainResult(step=3, checkpoint=tmp_path, pipeline=None, stopped_by=signal.SIGINT)
    monkeypatch.setattr("flowgression.training.loop.train", lambda *_, **__: stopped)
    assert run(["--model.family", "sit"]) == 130
    assert "Stopped at step 3" in capsys.readouterr().out
