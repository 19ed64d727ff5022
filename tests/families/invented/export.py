"""Drift as one graph."""

from typing import Any

import torch
from torch import Tensor, nn

from flowgression.export.graph import Exported, Graph


class Velocity(nn.Module):
    """x [B,C,H,W], t [B], class_labels [B] -> velocity [B,C,H,W]."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor) -> Tensor:
        return self.model(x, t, class_labels).velocity


def exported(model: Any) -> Exported:
    side = model.config.sample_size
    inputs = {
        "x": torch.randn(2, model.config.in_channels, side, side),
        "t": torch.tensor([0.3, 0.7]),
        "class_labels": torch.tensor([0, model.config.num_classes]),
    }
    return Exported({"velocity": Graph(Velocity(model), inputs, ["velocity"])})
