"""Tiny models with random weights, none of them zero, so that every part of them matters."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowgression import ARFlow, ARFlowPipeline, SiT, SiTPipeline

NAMES = dict(enumerate(("zero, nought", "one", "two", "three", "four", "five", "six", "seven")))
TINY = {
    "sample_size": (6, 4),
    "patch_size": 2,
    "in_channels": 1,
    "hidden_size": 16,
    "depth": 2,
    "num_heads": 2,
    "num_classes": 8,
}
MODELS = {"arflow": ARFlow, "sit": SiT}
PIPELINES = {"arflow": ARFlowPipeline, "sit": SiTPipeline}


def tiny_model(family: str, **overrides: Any) -> Any:
    model = MODELS[family](**{**TINY, **overrides})
    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.15, generator=generator)
    return model.eval()


def tiny_pipeline(family: str, **overrides: Any) -> Any:
    pipe = PIPELINES[family](tiny_model(family, **overrides), id2label=NAMES)
    pipe.set_progress_bar_config(disable=True)
    return pipe


@pytest.fixture(params=["arflow", "sit"])
def family(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def make_model() -> Callable[..., Any]:
    return tiny_model


@pytest.fixture
def make_pipeline() -> Callable[..., Any]:
    return tiny_pipeline
