"""A study small enough for tests: two networks of a few thousand weights, two points."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

SIZE = {"patch_size": 8, "hidden_size": 16, "depth": 1, "num_heads": 2, "learn_sigma": False}


@pytest.fixture
def tiny_study(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes the YAML of a tiny study; keywords replace its keys."""

    def write(**changes: Any) -> Path:
        content: dict[str, Any] = {
            "title": "Tiny",
            "out": str(tmp_path / "out"),
            "num_images": 12,
            "batch_size": 6,
            "reference": "mnist:test[:60]",
            "keep": 50,
            "bootstrap": 4,
            "grids": [{"num_inference_steps": [1, 2]}],
            "train": {
                "data": {"path": "mnist", "split": "test", "image_size": 16, "num_workers": 0},
                "batch_size": 6,
                "max_steps": 2,
                "device": "cpu",
                "preview": {"every": 0},
                "tracker": "none",
            },
            "models": {
                "SiT": {"sequence_length": 1, "model": {"family": "sit", "args": SIZE}},
                "ARFlow, S = 3": {"sequence_length": 3, "model": {"family": "arflow", "args": SIZE}},
            },
        }
        path = tmp_path / "study.yaml"
        path.write_text(yaml.safe_dump({**content, **changes}, sort_keys=False))
        return path

    return write
