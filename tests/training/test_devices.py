"""The same run compiled, and on a GPU."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from flowgression import TrainConfig, train
from flowgression.training.run_folder import RunFolder


def losses(config: TrainConfig) -> list[float]:
    return [line["loss"] for line in RunFolder(Path(config.out)).read_metrics()]


@pytest.mark.slow
def test_a_compiled_run_learns_the_same(tiny_config: Callable[..., TrainConfig], tmp_path: Path) -> None:
    plain = tiny_config()
    compiled = replace(plain, compile=True, out=str(tmp_path / "compiled"))
    train(plain)
    assert train(compiled).pipeline is not None
    assert losses(compiled) == pytest.approx(losses(plain), rel=1e-4)


@pytest.mark.gpu
@pytest.mark.parametrize("compiled", [False, True])
def test_a_run_in_bf16_on_a_gpu_resumes(tiny_config: Callable[..., TrainConfig], compiled: bool) -> None:
    config = tiny_config(device="cuda", precision="bf16", compile=compiled)
    train(replace(config, max_steps=3))
    assert train(config, resume=True).step == 6
    assert all(0 < loss < 10 for loss in losses(config))
    assert len(losses(config)) == 6
