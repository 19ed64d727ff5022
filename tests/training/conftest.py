"""Runs small enough for tests: digits of 14 x 14 pixels, four tokens each, and a network of a few thousand weights."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from flowgression import TrainConfig
from flowgression.data import DataConfig
from flowgression.training import EmaConfig, ModelConfig, OptimizerConfig, PreviewConfig, ScheduleConfig

TINY_MODEL = {"patch_size": 7, "hidden_size": 16, "depth": 1, "num_heads": 2, "class_dropout_prob": 0.2}


@pytest.fixture
def tiny_config(tmp_path: Path) -> Callable[..., TrainConfig]:
    """A function that gives a tiny run in the test's folder; keywords replace fields."""

    def make(family: str = "arflow", **fields: Any) -> TrainConfig:
        settings: dict[str, Any] = {
            "model": ModelConfig(family=family, args=TINY_MODEL),
            "data": DataConfig(path="mnist", split="test", num_workers=0),
            "sequence_length": 3 if family == "arflow" else 1,
            "batch_size": 6,
            "max_steps": 6,
            "optimizer": OptimizerConfig(lr=1e-2, clip_norm=1.0, clip_value=0.1),
            "schedule": ScheduleConfig(name="cosine", warmup_steps=3),
            "ema": EmaConfig(decay=0.9),
            "device": "cpu",
            "num_threads": 1,
            "out": str(tmp_path / "run"),
            "checkpoint_every": 3,
            "log_every": 1,
            "preview": PreviewConfig(every=0),
            "tracker": "none",
        }
        return TrainConfig(**(settings | fields))

    return make
