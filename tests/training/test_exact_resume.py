"""A run that is killed at any moment and resumed ends with the bits of a run that was never killed."""

import multiprocessing
import os
import random
import signal
import time
from collections.abc import Callable
from multiprocessing.process import BaseProcess
from pathlib import Path

import pytest

from flowgression import TrainConfig, train

# Children are forked from a server that has loaded the libraries but never computed: they start in milliseconds.
CONTEXT = multiprocessing.get_context("forkserver")
CONTEXT.set_forkserver_preload(
    ["flowgression.training.loop", "flowgression.families.arflow.model", "flowgression.families.arflow.pipeline"]
)


def start(config: TrainConfig) -> BaseProcess:
    process = CONTEXT.Process(target=train, args=(config,), kwargs={"resume": True})
    process.start()
    return process


def kill(process: BaseProcess) -> None:
    assert process.pid is not None
    os.kill(process.pid, signal.SIGKILL)
    process.join()


def finish(config: TrainConfig) -> None:
    process = start(config)
    process.join()
    assert process.exitcode == 0


def wait_for(condition: Callable[[], bool], process: BaseProcess) -> bool:
    """Whether `condition` came true while the process was alive."""
    while process.is_alive():
        if condition():
            return True
        time.sleep(0.0005)
    return False


def result(folder: Path) -> dict[str, bytes]:
    """What has to be equal: losses, the newest checkpoint, the final model."""
    names = ["metrics.jsonl", "pipeline/transformer/diffusion_pytorch_model.safetensors"]
    newest = max((folder / "checkpoints").iterdir()).relative_to(folder)
    for name in ("model/diffusion_pytorch_model.safetensors", "ema/diffusion_pytorch_model.safetensors"):
        names.append(f"{newest}/{name}")
    names.append(f"{newest}/optimizer.safetensors")
    return {name: (folder / name).read_bytes() for name in names}


def leftovers(folder: Path) -> list[Path]:
    return list((folder / "checkpoints").glob(".step-*"))


@pytest.fixture
def settings(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> Callable[[str], TrainConfig]:
    """The same run into folders of different names; it has to be resumed between logged steps, too."""

    def make(name: str) -> TrainConfig:
        return tiny_config(max_steps=60, checkpoint_every=7, log_every=3, out=str(tmp_path / name))

    return make


def test_killed_between_checkpoints_and_while_one_is_written(
    settings: Callable[[str], TrainConfig], tmp_path: Path
) -> None:
    finish(settings("unbroken"))
    folder, config = tmp_path / "broken", settings("broken")

    # Between two checkpoints: nine steps are logged, seven of them are saved.
    process = start(config)
    assert wait_for(lambda: (folder / "metrics.jsonl").exists() and '"step": 9' in read(folder), process)
    kill(process)
    assert not (folder / "pipeline").exists()

    # While a checkpoint is being written, as often as it takes to catch it at that.
    process = start(config)
    caught = wait_for(lambda: bool(leftovers(folder)), process)
    kill(process)
    assert caught
    assert not (folder / "pipeline").exists()

    finish(config)
    assert leftovers(folder) == []
    assert result(folder) == result(tmp_path / "unbroken")


def read(folder: Path) -> str:
    return (folder / "metrics.jsonl").read_text()


@pytest.mark.slow
def test_killed_at_random_moments(settings: Callable[[str], TrainConfig], tmp_path: Path) -> None:
    finish(settings("unbroken"))
    config, moments = settings("broken"), random.Random(0)
    kills, patience = 0, 0.5
    while True:
        process = start(config)
        process.join(timeout=moments.uniform(0.0, patience))
        patience *= 1.2  # so that it ends on a slow machine, too
        if process.exitcode is not None:
            assert process.exitcode == 0
            break
        kill(process)
        kills += 1
    assert kills > 0
    assert result(tmp_path / "broken") == result(tmp_path / "unbroken")
