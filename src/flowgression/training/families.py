"""From a family of models to its pipeline."""

from collections.abc import Sequence
from typing import Any

from torch import nn

import flowgression

PIPELINES = {"arflow": "ARFlowPipeline", "sit": "SiTPipeline", "flowar": "FlowARPipeline"}


def make_pipeline(family: str, model: nn.Module, class_names: Sequence[str]) -> Any:
    """The sampling pipeline of `family` around `model`, with the classes' names."""
    return getattr(flowgression, PIPELINES[family])(transformer=model, id2label=dict(enumerate(class_names)))
