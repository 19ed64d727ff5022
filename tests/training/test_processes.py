"""Training on several processes: the same numbers as on one, and what happens when one of them dies."""

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil
import pytest
import torch
import yaml
from safetensors.torch import load_file

from flowgression import InputError, TrainConfig, load_pipeline
from flowgression.data import DataConfig
from flowgression.training import PreviewConfig, ScheduleConfig, config_to_dict
from flowgression.training.checkpoint import latest_checkpoint
from flowgression.training.run_folder import RunFolder
from flowgression.training.sharding import can_shard, require_sharding
from tests.launching import CONTEXT, Group, run_command

MakeConfig = Callable[..., TrainConfig]
IN_SHARDS = pytest.mark.skipif(not can_shard("cpu"), reason="this torch shards no weights on the CPU")


@pytest.fixture
def train(launch: Callable[..., Any], tmp_path: Path) -> Callable[..., Any]:
    """Start `flowgression train` with a configuration on some processes."""

    def start(config: TrainConfig, count: int, *flags: str, **environment: str) -> Any:
        file = tmp_path / f"{Path(config.out).name}.yaml"
        file.write_text(yaml.safe_dump(config_to_dict(config)))
        return launch(["train", "--config", file, *flags], count, **environment)

    return start


def metrics(config: TrainConfig) -> list[dict[str, float]]:
    return [line for line in RunFolder(Path(config.out)).read_metrics() if "fid" not in line]


def fid_of(config: TrainConfig) -> float:
    (found,) = [line["fid"] for line in RunFolder(Path(config.out)).read_metrics() if "fid" in line]
    return found


def assert_same_course(left: TrainConfig, right: TrainConfig, steps: int = 20) -> None:
    first, second = metrics(left), metrics(right)
    assert len(first) == len(second) == steps
    for one, other in zip(first, second, strict=True):
        assert one == pytest.approx(other, rel=1e-5)


def assert_same_checkpoint(
    left: TrainConfig, right: TrainConfig, step: int = 20, names: Sequence[str] = ("model", "ema")
) -> None:
    for name in names:
        one, other = (
            load_file(next((Path(config.out) / "checkpoints" / f"step-{step:07d}" / name).glob("*.safetensors")))
            for config in (left, right)
        )
        assert one.keys() == other.keys()
        for key, value in one.items():
            assert value.shape == other[key].shape
            assert (value - other[key]).abs().max() < 1e-5


@pytest.mark.parametrize("parallelism", ["ddp", pytest.param("fsdp2", marks=IN_SHARDS)])
def test_two_processes_equal_one_with_the_whole_batch(
    parallelism: str, tiny_config: MakeConfig, train: Callable[..., Any], tmp_path: Path
) -> None:
    """Data parallel, in shards, and in parts one after the other: the same losses, gradients, weights and averages.

    So are what is done to images, the loss of those held out, and the best average.
    """
    data = DataConfig(path="mnist", split="test", num_workers=0, augment=0.3, validation=0.02)
    preview = PreviewConfig(every=0, num_inference_steps=1, fid_images=8)
    one = tiny_config(batch_size=12, max_steps=20, checkpoint_every=20, data=data, preview=preview)
    two = replace(one, out=str(tmp_path / "two"), gradient_accumulation=2, parallelism=parallelism)
    two = replace(two, activation_checkpointing=parallelism == "fsdp2")
    for config, count in ((one, 1), (two, 2)):
        group = train(config, count)
        assert group.wait() == [0] * count, group.output()
        assert group.output().count("Trained 20 steps") == 1
        if config is not one:
            assert_same_course(one, config, steps=21)  # the last line is of the held-out images
            assert fid_of(one) == pytest.approx(fid_of(config), rel=1e-2)  # of weights that differ in the fifth digit
            assert_same_checkpoint(one, config, names=("model", "ema", "best"))
    assert load_pipeline(tmp_path / "two" / "pipeline").transformer.config.hidden_size == 16


def test_a_torch_that_cannot_shard_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cpu, "Stream", object)
    require_sharding("cuda")
    with pytest.raises(InputError, match="parallelism='fsdp2' on device='cpu' needs a newer torch than"):
        require_sharding("cpu")


def test_a_killed_process_ends_the_run_and_any_number_goes_on(
    tiny_config: MakeConfig, train: Callable[..., Any], tmp_path: Path
) -> None:
    config = tiny_config(batch_size=12, max_steps=200, checkpoint_every=4, schedule=ScheduleConfig())

    # Two processes, one of which dies: the other says so and saves the state before the step it was in.
    group = train(config, 2)
    group.wait_until(lambda: len(metrics(config)) >= 6)
    group.kill(1)
    assert group.wait() == [1, -9]
    assert group.output().count("another process of this run was lost in step") == 1
    assert "Traceback" not in group.output()
    kept = latest_checkpoint(Path(config.out) / "checkpoints")
    step = len(metrics(config))
    assert kept is not None
    assert kept.name == f"step-{step:07d}"
    assert f"Newest whole checkpoint: {kept}; add --resume to resume from it." in group.output()

    # One process goes on, and does what one process does without a break.
    alone = replace(config, max_steps=step + 4)
    group = train(alone, 1, "--resume")
    assert group.wait() == [0], group.output()
    note = next(line for line in group.output().splitlines() if line.startswith("The last bits may differ"))
    assert "num_processes 2 -> 1" in note  # and threads, where several processes choose other numbers of them
    unbroken = replace(alone, out=str(tmp_path / "unbroken"))
    assert train(unbroken, 1).wait() == [0]
    assert [line["step"] for line in metrics(config)] == list(range(1, step + 5))
    for left, right in zip(metrics(config), metrics(unbroken), strict=True):
        assert left["loss"] == pytest.approx(right["loss"], rel=1e-4)


def test_a_killed_reader_ends_the_run_with_its_state_saved(tiny_config: MakeConfig, train: Callable[..., Any]) -> None:
    data = DataConfig(path="mnist", split="test", num_workers=1)
    config = tiny_config(data=data, max_steps=300, checkpoint_every=4, schedule=ScheduleConfig())
    group = train(config, 1)
    group.wait_until(lambda: len(metrics(config)) >= 6)
    (reader,) = psutil.Process(group.processes[0].pid).children()
    reader.kill()
    assert group.wait() == [1]
    assert group.output().count("flowgression train: a process that reads images was lost (DataLoader worker (pid") == 1
    assert "Traceback" not in group.output()
    kept = latest_checkpoint(Path(config.out) / "checkpoints")
    assert f"Newest whole checkpoint: {kept}; add --resume" in group.output()


@IN_SHARDS
def test_a_full_disk_keeps_the_older_checkpoint_from_which_two_go_on_in_shards(
    tiny_config: MakeConfig, train: Callable[..., Any], tmp_path: Path
) -> None:
    unbroken = tiny_config(batch_size=12, max_steps=8, checkpoint_every=4, schedule=ScheduleConfig())
    assert train(unbroken, 1).wait() == [0]
    shards = replace(unbroken, parallelism="fsdp2", out=str(tmp_path / "shards"))
    kept = tmp_path / "shards" / "checkpoints" / "step-0000004"
    shutil.copytree(Path(unbroken.out) / "checkpoints" / kept.name, kept)
    shutil.copy(Path(unbroken.out) / "metrics.jsonl", tmp_path / "shards")
    before = {file: file.read_bytes() for file in kept.rglob("*") if file.is_file()}

    size = max(map(len, before.values())) - 1  # so that the optimiser's state does not fit any more
    group = train(shards, 2, "--resume", TEST_FILE_LIMIT=str(size))
    assert group.wait() == [1, 1]
    assert group.output().count("flowgression train: cannot write") == 1
    assert "step-0000008" in group.output(0)
    assert f"Newest whole checkpoint: {kept}; add --resume to resume from it." in group.output(0)
    assert "Traceback" not in group.output()
    assert {file: file.read_bytes() for file in kept.rglob("*") if file.is_file()} == before
    assert [entry.name for entry in kept.parent.iterdir()] == [kept.name]

    group = train(shards, 2, "--resume")
    assert group.wait() == [0, 0], group.output()
    assert_same_course(unbroken, shards, steps=8)
    assert_same_checkpoint(unbroken, shards, step=8)


def elastic_run(arguments: list[str], log: Path, restarts: int) -> None:
    """What torchrun --nproc-per-node 2 --max-restarts `restarts` does, its workers forked from this process."""
    from torch.distributed.launcher.api import LaunchConfig, elastic_launch

    # Else processes that are started anew may look for lost ones under their old addresses.
    os.environ["TORCH_DISABLE_SHARE_RDZV_TCP_STORE"] = "1"
    config = LaunchConfig(
        min_nodes=1,
        max_nodes=1,
        nproc_per_node=2,
        max_restarts=restarts,
        rdzv_backend="c10d",
        rdzv_endpoint="localhost:0",
        run_id=log.name,
        start_method="fork",
    )
    elastic_launch(config, run_command)(arguments, {}, log)


@pytest.mark.slow
def test_a_launcher_that_restarts_lost_processes_brings_the_run_to_its_end(
    tiny_config: MakeConfig, launch: Callable[..., Any], tmp_path: Path
) -> None:
    config = tiny_config(batch_size=12, max_steps=60, checkpoint_every=4)
    file, log = tmp_path / "elastic.yaml", tmp_path / "elastic.txt"
    file.write_text(yaml.safe_dump(config_to_dict(config)))
    agent = CONTEXT.Process(target=elastic_run, args=(["train", "--config", str(file)], log, 1))
    agent.start()
    group = Group([agent], [log])
    group.wait_until(lambda: len(metrics(config)) >= 6)
    workers = [child.pid for child in psutil.Process(agent.pid).children() if child.status() != "zombie"]
    os.kill(workers[-1], signal.SIGKILL)
    assert group.wait() == [0], group.output()
    assert "Resumed from" in group.output()
    assert "Trained 60 steps" in group.output()
    assert [line["step"] for line in metrics(config)] == list(range(1, 61))


@pytest.mark.slow
@pytest.mark.parametrize(
    "launcher",
    [
        ("torch.distributed.run", "--nproc-per-node", "2", "--no-python"),
        ("accelerate.commands.launch", "--cpu", "--num_processes", "1", "--no_python"),
    ],
    ids=["torchrun", "accelerate"],
)
def test_the_launchers_themselves(launcher: tuple[str, ...], tiny_config: MakeConfig, tmp_path: Path) -> None:
    config = tiny_config(batch_size=12, max_steps=3)
    file = tmp_path / "tiny.yaml"
    file.write_text(yaml.safe_dump(config_to_dict(config)))
    command = Path(sys.executable).parent / "flowgression"
    done = subprocess.run(
        [sys.executable, "-m", *launcher, str(command), "train", "--config", str(file)],
        capture_output=True,
        text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr
    assert "Trained 3 steps" in done.stdout
    assert len(metrics(config)) == 3


@pytest.mark.slow
@pytest.mark.parametrize("parallelism", ["ddp", pytest.param("fsdp2", marks=IN_SHARDS)])
def test_everything_at_once(
    parallelism: str, tiny_config: MakeConfig, train: Callable[..., Any], tmp_path: Path
) -> None:
    """Compiled, in bfloat16, with parts and activations computed again: near the plain run, and it resumes."""
    plain = tiny_config(batch_size=12, max_steps=4)
    assert train(plain, 1).wait() == [0]
    config = replace(
        plain,
        out=str(tmp_path / "all"),
        parallelism=parallelism,
        precision="bf16",
        compile=True,
        gradient_accumulation=2,
        activation_checkpointing=True,
    )
    for steps in (2, 4):
        group = train(replace(config, max_steps=steps), 2, "--resume", "--allow-changes")
        assert group.wait(900) == [0, 0], group.output()
    for one, other in zip(metrics(plain), metrics(config), strict=True):
        assert one["loss"] == pytest.approx(other["loss"], rel=2e-2)


@pytest.mark.gpu
@pytest.mark.skipif(torch.cuda.device_count() < 2, reason="needs two GPUs")
@pytest.mark.parametrize("parallelism", ["ddp", "fsdp2"])
def test_two_gpus(parallelism: str, tiny_config: MakeConfig, train: Callable[..., Any]) -> None:
    config = tiny_config(batch_size=12, max_steps=4, device="cuda", precision="bf16", parallelism=parallelism)
    assert train(config, 2).wait() == [0, 0]
    assert train(replace(config, max_steps=6), 1, "--resume", "--allow-changes").wait() == [0]
    assert len(metrics(config)) == 6
