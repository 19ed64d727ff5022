"""SiT as one graph. B: images, C H W: channels and size."""

from typing import Any

from torch import Tensor, nn

from flowgression.export.graph import Exported, Graph
from flowgression.families.dit.export import example_inputs, interval_ends


def exported(model: Any) -> Exported:
    """The graph of a SiT."""
    inputs = example_inputs(model) | interval_ends(model)
    return Exported({"velocity": Graph(Velocity(model), inputs, ["velocity"])})


class Velocity(nn.Module):
    """x [B,C,H,W], t [B], class_labels [B] and, with average velocities, r [B] -> velocity [B,C,H,W]."""

    def __init__(self, model: Any):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, r: Tensor | None = None) -> Tensor:
        return self.model(x, t, class_labels, r=r).velocity
