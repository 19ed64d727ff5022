"""Two processes with half a batch each do what one process does with the whole batch."""

import os
import socket
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import yaml

from flowgression.training.config import TrainConfig, config_to_dict
from flowgression.training.loop import train
from flowgression.training.run_folder import RunFolder

CODE = "import sys; from flowgression.cli.train import run; sys.exit(run(sys.argv[1:]))"


def free_port() -> int:
    with socket.socket() as opened:
        opened.bind(("127.0.0.1", 0))
        return opened.getsockname()[1]


@pytest.mark.slow
def test_two_processes_equal_one_with_the_whole_batch(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    one = tiny_config(batch_size=12, max_steps=20, checkpoint_every=20)
    train(one)
    two = replace(one, out=str(tmp_path / "two"))
    file = tmp_path / "two.yaml"
    file.write_text(yaml.safe_dump(config_to_dict(two)))
    shared = os.environ | {"WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(free_port())}
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", CODE, "--config", str(file)],
            env=shared | {"RANK": str(rank), "LOCAL_RANK": str(rank)},
        )
        for rank in range(2)
    ]
    assert [process.wait() for process in processes] == [0, 0]
    left, right = (RunFolder(Path(config.out)).read_metrics() for config in (one, two))
    assert len(left) == len(right) == 20
    for first, second in zip(left, right, strict=True):
        assert first == pytest.approx(second, rel=1e-5)
