"""What the graphs of SiT and ARFlow share."""

from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError


def example_inputs(model: Any) -> dict[str, Tensor]:
    """x [2,C,H,W], t [2] and class_labels [2] of a call. Raises InputError for a model of average velocities."""
    if getattr(model.config, "average_velocity", False):
        raise InputError("models of average velocities are not exported: the graphs have no end of an interval.")
    return {
        "x": torch.randn(2, model.config.in_channels, *model.size),
        "t": torch.tensor([0.3, 0.7]),
        "class_labels": torch.tensor([0, model.config.num_classes]),
    }
