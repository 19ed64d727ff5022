"""Whole runs of a tiny network: what they leave behind, how they stop, what they refuse."""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from PIL import Image

from flowgression import InputError, TrainConfig, load_pipeline, train
from flowgression.data import DataConfig, LabeledImages, open_dataset
from flowgression.training import (
    ModelConfig,
    NonFiniteError,
    OptimizerConfig,
    PreviewConfig,
    RunError,
    ScheduleConfig,
    config_from_dict,
)
from flowgression.training.checkpoint import latest_checkpoint, read_state
from flowgression.training.run_folder import RunFolder, training_bytes
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

MakeConfig = Callable[..., TrainConfig]


def metrics(config: TrainConfig) -> list[dict[str, float]]:
    return RunFolder(Path(config.out)).read_metrics()


def at_step(monkeypatch: pytest.MonkeyPatch, step: int, act: Callable[[Trainer, dict], None]) -> None:
    """Do something just before the optimisation step number `step`, counted from 1."""

    def patched(trainer: Trainer, done: int, batch: dict, **keywords: Any) -> Any:
        if done == step - 1:
            act(trainer, batch)
        return training_step(trainer, done, batch, **keywords)

    monkeypatch.setattr("flowgression.training.loop.training_step", patched)


@pytest.mark.parametrize("family", ["arflow", "sit"])
def test_a_run_leaves_a_pipeline_metrics_pictures_and_its_configuration(
    family: str, tiny_config: MakeConfig, tmp_path: Path
) -> None:
    config = tiny_config(
        family,
        preview=PreviewConfig(every=4, num_images=3, num_inference_steps=2),
        tracker="tensorboard",
        log_every=2,
    )
    result = train(config)
    assert (result.step, result.stopped_by) == (6, None)
    assert result.pipeline == tmp_path / "run" / "pipeline"

    pipe = load_pipeline(result.pipeline)
    pipe.set_progress_bar_config(disable=True)
    picture = pipe(class_labels=["seven"], num_inference_steps=2).images[0]
    assert picture.size == (28, 28)
    averaged = load_pipeline(result.checkpoint / "ema").transformer.state_dict()
    assert all(torch.equal(value, averaged[name]) for name, value in pipe.transformer.state_dict().items())

    assert [line["step"] for line in metrics(config)] == [2, 4, 6]
    assert metrics(config)[1]["lr"] == pytest.approx(1e-2)
    saved = yaml.safe_load((tmp_path / "run" / "config.yaml").read_text())
    assert config_from_dict(TrainConfig, saved) == config
    for name in ("loss.png", "samples/step-0000004.png"):
        with Image.open(tmp_path / "run" / name) as image:
            image.load()
    assert list((tmp_path / "run" / "tensorboard").glob("events.out.tfevents*"))
    assert [entry.name for entry in sorted((tmp_path / "run" / "checkpoints").iterdir())] == [
        "step-0000003",
        "step-0000006",
    ]


def test_training_lowers_the_loss(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=60, batch_size=12, checkpoint_every=60)
    train(config)
    losses = [line["loss"] for line in metrics(config)]
    # At first the velocity is zero and the loss the mean square of x1 - x0, about 1.9.
    assert sum(losses[-10:]) / 10 < 0.7 * losses[0]


def test_metrics_are_means_over_the_logged_steps(tiny_config: MakeConfig, tmp_path: Path) -> None:
    single, double = tiny_config(out=str(tmp_path / "a")), tiny_config(out=str(tmp_path / "b"), log_every=2)
    train(single)
    train(double)
    losses = [line["loss"] for line in metrics(single)]
    means = [line["loss"] for line in metrics(double)]
    assert means == [(first + second) / 2 for first, second in zip(losses[::2], losses[1::2], strict=True)]


def test_sit_and_arflow_see_equally_many_images(tiny_config: MakeConfig) -> None:
    for family, shape in (("arflow", (2, 3)), ("sit", (6,))):
        batch = next(Trainer(tiny_config(family)).batches(0))
        assert batch["images"].shape == (*shape, 1, 28, 28)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_saves_stops_and_lets_resume(
    number: signal.Signals, tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    unbroken = tiny_config(out=str(tmp_path / "unbroken"), log_every=5)
    train(unbroken)
    config = tiny_config(log_every=5)
    before = signal.getsignal(number)
    with monkeypatch.context() as patch:
        at_step(patch, 2, lambda *_: os.kill(os.getpid(), number))
        result = train(config)
    assert result.stopped_by == number
    assert result.pipeline is None
    assert result.checkpoint == tmp_path / "run" / "checkpoints" / f"step-{result.step:07d}"
    assert 2 <= result.step <= 3
    assert signal.getsignal(number) == before

    assert train(config, resume=True).step == 6
    assert metrics(config) == metrics(unbroken)


def make_nan(trainer: Trainer, batch: dict) -> None:
    batch["images"][0].fill_(float("nan"))


def test_a_loss_that_is_not_finite_stops_with_the_last_good_state(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    good = tiny_config(out=str(tmp_path / "good"), max_steps=4, schedule=ScheduleConfig())
    train(good)
    config = tiny_config(schedule=ScheduleConfig())
    with monkeypatch.context() as patch:
        at_step(patch, 5, make_nan)
        with pytest.raises(NonFiniteError, match=r"step 5: loss nan.*not taken.*step-0000004"):
            train(config)
    assert [line["step"] for line in metrics(config)] == [1, 2, 3, 4]
    for name in ("model/diffusion_pytorch_model.safetensors", "optimizer.safetensors"):
        left, right = (tmp_path / run / "checkpoints" / "step-0000004" / name for run in ("run", "good"))
        assert left.read_bytes() == right.read_bytes()
    assert train(config, resume=True).step == 6


def test_a_gradient_that_is_not_finite_stops_too(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    def poison(trainer: Trainer, batch: dict) -> None:
        trainer.model.final_layer.linear.bias.register_hook(lambda gradient: gradient * float("inf"))

    at_step(monkeypatch, 2, poison)
    with pytest.raises(NonFiniteError, match=r"step 2: loss \d.*gradient (nan|inf)"):
        train(tiny_config())


def test_resuming_a_finished_run_changes_nothing(tiny_config: MakeConfig) -> None:
    config = tiny_config()
    train(config)
    before = metrics(config)
    assert train(config, resume=True).step == 6
    assert metrics(config) == before


def test_a_finished_run_can_be_made_longer(tiny_config: MakeConfig, tmp_path: Path) -> None:
    steady = ScheduleConfig()
    train(tiny_config(schedule=steady))
    longer = tiny_config(schedule=steady, max_steps=9)
    assert train(longer, resume=True).step == 9
    unbroken = tiny_config(schedule=steady, max_steps=9, out=str(tmp_path / "unbroken"))
    train(unbroken)
    assert metrics(longer) == metrics(unbroken)


def test_a_new_run_does_not_mix_with_an_old_one(tiny_config: MakeConfig) -> None:
    train(tiny_config(max_steps=3))
    with pytest.raises(InputError, match=r"already holds a run; add --resume"):
        train(tiny_config())


def test_a_changed_configuration_is_refused_by_field(tiny_config: MakeConfig, capsys: pytest.CaptureFixture) -> None:
    train(tiny_config(max_steps=3))
    changed = tiny_config(seed=1, optimizer=OptimizerConfig(lr=1e-3, clip_norm=1.0, clip_value=0.1))
    with pytest.raises(InputError, match=r"optimizer.lr 0.01 -> 0.001, seed 0 -> 1") as error:
        train(changed, resume=True)
    assert "max_steps" not in str(error.value)
    assert train(changed, resume=True, allow_changes=True).step == 6
    assert "seed 0 -> 1" in capsys.readouterr().out


def test_other_data_are_refused(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    train(tiny_config(max_steps=3))
    original = Trainer.data_summary
    monkeypatch.setattr(Trainer, "data_summary", lambda self: {**original(self), "num_images": 9_999})
    with pytest.raises(InputError, match="the data set's num_images 10000 -> 9999"):
        train(tiny_config(), resume=True)


def test_another_model_is_refused_even_when_changes_are_allowed(tiny_config: MakeConfig) -> None:
    config = tiny_config(max_steps=3)
    train(config)
    wider = replace(config, model=ModelConfig(family="arflow", args={**config.model.args, "hidden_size": 32}))
    with pytest.raises(InputError, match=r"cannot resume exactly.*model.args.hidden_size 16 -> 32"):
        train(wider, resume=True)
    with pytest.raises(InputError, match=r"checkpoint of another model: hidden_size=16 \(now 32\)"):
        train(wider, resume=True, allow_changes=True)


def test_resume_without_a_checkpoint_starts_from_the_beginning(
    tiny_config: MakeConfig, capsys: pytest.CaptureFixture
) -> None:
    assert train(tiny_config(max_steps=2), resume=True).step == 2
    assert "starting from the beginning" in capsys.readouterr().out


def test_half_a_line_of_metrics_does_no_harm(tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config()
    train(replace(config, max_steps=3))
    with (tmp_path / "run" / "metrics.jsonl").open("a") as file:
        file.write('{"step": 4, "lo')
    train(config, resume=True)
    assert [line["step"] for line in metrics(config)] == [1, 2, 3, 4, 5, 6]


def test_a_full_disk_while_saving_keeps_the_older_checkpoint(
    tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from flowgression.training import checkpoint

    original = checkpoint.save_file

    def save_file(tensors: dict, path: Path, **keywords: Any) -> None:
        if "step-0000006" in str(path):
            raise OSError(28, "No space left on device")
        original(tensors, path, **keywords)

    with monkeypatch.context() as patch:
        patch.setattr(checkpoint, "save_file", save_file)
        with pytest.raises(RunError, match=r"No space left on device.*Newest whole checkpoint: .*step-0000003"):
            train(tiny_config())
    assert latest_checkpoint(tmp_path / "run" / "checkpoints") == tmp_path / "run" / "checkpoints" / "step-0000003"
    assert train(tiny_config(), resume=True).step == 6


@pytest.mark.parametrize("num_workers", [0, 1])
def test_an_image_that_cannot_be_used_gives_one_line_and_keeps_the_state(
    num_workers: int, tiny_config: MakeConfig, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = tiny_config(data=DataConfig(path="mnist", split="test", num_workers=num_workers))
    original, calls = LabeledImages.items, []

    def items(self: LabeledImages, *arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 5:
            raise InputError("dog/7.png cannot be read: truncated")
        return original(self, *arguments)

    with monkeypatch.context() as patch:
        patch.setattr(type(open_dataset(config.data)), "items", items)
        with pytest.raises(InputError) as error:
            train(config)
    kept = tmp_path / "run" / "checkpoints" / "step-0000004"
    assert str(error.value) == (
        f"dog/7.png cannot be read: truncated. Newest whole checkpoint: {kept}; add --resume to resume from it."
    )
    assert train(config, resume=True).step == 6


def test_gradients_of_parts_are_those_of_the_whole_batch(tiny_config: MakeConfig, tmp_path: Path) -> None:
    whole = tiny_config("sit", batch_size=6)
    parts = replace(
        whole, gradient_accumulation=3, activation_checkpointing=True, out=str(tmp_path / "parts"), precision="fp32"
    )
    for config in (whole, parts):
        train(config)
    for one, other in zip(metrics(whole), metrics(parts), strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def test_a_batch_that_cannot_be_shared_is_refused(tiny_config: MakeConfig) -> None:
    with pytest.raises(InputError, match=r"batch_size=6 in sequences of 3 cannot.*=4 parts each; use a multiple of 12"):
        train(tiny_config(gradient_accumulation=4))


def test_another_engine_of_the_launcher_is_refused(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ACCELERATE_USE_DEEPSPEED", "true")
    with pytest.raises(InputError, match="told to use DEEPSPEED; launch without it and set parallelism='fsdp2'"):
        train(tiny_config())


def test_too_little_space_is_found_before_training(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("flowgression.training.run_folder.shutil.disk_usage", lambda path: free)
    monkeypatch.setattr("flowgression.training.loop.run_steps", lambda *_: pytest.fail("training started"))
    with pytest.raises(InputError, match=r"0 MiB free.*needs about 6\d MiB"):
        train(tiny_config())


def test_the_space_a_run_needs() -> None:
    # Three checkpoints of weights, average and two moments, and the pipeline: 13 times the weights.
    assert training_bytes(10**9, keep_checkpoints=2) == 13 * 10**9 + 64 * 2**20


def test_a_folder_that_cannot_be_written_is_found_before_training(tiny_config: MakeConfig, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match=r"out=.*file/run.*cannot be written"):
        train(tiny_config(out=str(tmp_path / "file" / "run")))


def test_a_device_that_is_not_there_is_refused(tiny_config: MakeConfig) -> None:
    missing = "mps" if torch.cuda.is_available() else "cuda"
    with pytest.raises(InputError, match=f"device='{missing}' is not available"):
        train(tiny_config(device=missing))


def test_a_tracker_that_is_not_installed_is_refused(tiny_config: MakeConfig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("flowgression.training.accelerator.find_spec", lambda name: None)
    with pytest.raises(InputError, match=r"pip install 'flowgression\[wandb\]'"):
        train(tiny_config(tracker="wandb"))


def test_arguments_against_the_data_are_refused(tiny_config: MakeConfig) -> None:
    config = tiny_config(model=ModelConfig(family="arflow", args={"num_classes": 7}))
    with pytest.raises(InputError, match=r"model.args.num_classes=7 does not fit the data, which have 10"):
        train(config)


def test_bf16_trains_and_keeps_weights_in_fp32(tiny_config: MakeConfig) -> None:
    config = tiny_config(precision="bf16", max_steps=2)
    result = train(config)
    assert all(0 < line["loss"] < 10 for line in metrics(config))
    assert load_pipeline(result.checkpoint / "model").transformer.dtype == torch.float32


def test_the_size_of_images_is_the_datas(tiny_config: MakeConfig) -> None:
    trainer = Trainer(tiny_config(data=DataConfig(path="mnist", split="test", image_size=14, num_workers=0)))
    assert trainer.model.config.sample_size == 14
    assert (trainer.model.config.in_channels, trainer.model.config.num_classes) == (1, 10)


def test_the_state_file_is_plain_json(tiny_config: MakeConfig) -> None:
    path = train(tiny_config(max_steps=1)).checkpoint
    state = json.loads((path / "trainer.json").read_text())
    assert state["data"]["num_images"] == 10_000
    assert state["environment"]["device"] == "cpu"
    assert read_state(path).step == 1


def test_two_runs_do_not_write_into_one_folder(tiny_config: MakeConfig, tmp_path: Path) -> None:
    """Who holds the folder keeps others out, also those that resume; when it is killed, the folder is free."""
    code = f"""
import sys, time
from pathlib import Path
from flowgression.training.run_folder import RunFolder
folder = RunFolder(Path({str(tmp_path / "run")!r}))
folder.check_writable()
with folder.locked() as take:
    take()
    print("held", flush=True)
    time.sleep(600)
"""
    holder = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        for resume in (False, True):
            with pytest.raises(InputError, match="another run is writing into this folder"):
                train(tiny_config(max_steps=1), resume=resume)
        assert not (tmp_path / "run" / "checkpoints").exists()
    finally:
        holder.kill()
        holder.wait()
    assert train(tiny_config(max_steps=1)).step == 1
    assert train(tiny_config(max_steps=2), resume=True).step == 2  # the first has let go of it


def test_a_home_folder_in_a_file(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, tiny_config: MakeConfig) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert tiny_config(out="~/runs/x").out == str(tmp_path / "home" / "runs" / "x")
    assert tiny_config(out="runs/~x").out == "runs/~x"
