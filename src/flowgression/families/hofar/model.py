"""HOFAR: a FlowAR whose second flow head predicts the acceleration of the flow.

B: images, T: tokens at hand, C: channels of a token.
"""

from collections.abc import Callable
from typing import Any

from flowgression.families.flowar.flow_head import FlowHead
from flowgression.families.flowar.model import FlowAR
from flowgression.families.hofar.presets import preset_config


class HOFAR(FlowAR):
    """HOFAR (arXiv 2503.08032): FlowAR with a velocity and an acceleration, sampled by Taylor's method of second order.

    Both heads read the same tokens, times and semantic maps, and have the sizes that FlowAR's head has; a `flow_depth`
    of half as many blocks makes a model of about as many parameters. Trained on a curved path, by default gvp: on the
    linear one the acceleration is 0.

    The second head learns E[x''_t | x_t], the mean over all images that may lie behind x_t. That is not the derivative
    of the velocity along the solution, which Taylor's method asks for: d/dt E[x'_t | x_t] also has the spread of x'_t
    around its mean. On the gvp path x''_t = -(pi/2)^2 x_t, known without a network. docs/glossary.md says more.

    Args and errors as in `flowgression.families.flowar.model.FlowAR`.
    """

    acceleration_head: FlowHead

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "HOFAR":
        """A new model of a size, such as "S"; see `presets.py`. Keywords override single values."""
        return cls(**preset_config(name, **overrides))

    def _add_flow_heads(self, make_head: Callable[[], FlowHead]) -> None:
        super()._add_flow_heads(make_head)
        self.acceleration_head = make_head()

    @property
    def flow_heads(self) -> tuple[FlowHead, ...]:
        """Velocity and acceleration, each (x_t [B, T, C], t, semantics) -> [B, T, C]."""
        return (self.flow_head, self.acceleration_head)
