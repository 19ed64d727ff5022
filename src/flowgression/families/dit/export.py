"""What the graphs of SiT and ARFlow share."""

from typing import Any

import torch
from torch import Tensor

from flowgression.sampling.request import predicts_averages


def example_inputs(model: Any) -> dict[str, Tensor]:
    """x [2,C,H,W], t [2] and class_labels [2] of a call."""
    return {
        "x": torch.randn(2, model.config.in_channels, *model.size),
        "t": torch.tensor([0.3, 0.7]),
        "class_labels": torch.tensor([0, model.config.num_classes]),
    }


def interval_ends(model: Any) -> dict[str, Tensor]:
    """The last input, r [2], of a model of average velocities: where the interval from t on ends; else nothing."""
    return {"r": torch.tensor([0.5, 1.0])} if predicts_averages(model) else {}
