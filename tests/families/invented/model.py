"""Drift: a velocity by two linear layers on the whole image. B: images, C H W: channels and size, F: hidden width."""

from dataclasses import dataclass
from typing import Any

from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor, nn
from torch.nn.functional import silu

from flowgression.layers.embeddings import LabelEmbedder, TimestepEmbedder
from flowgression.layers.modulation import match_rows
from flowgression.layers.weights import OwnedWeights
from tests.families.invented.presets import preset_config


@dataclass
class DriftOutput(BaseOutput):
    """velocity: [B, C, H, W]."""

    velocity: Tensor


class Drift(OwnedWeights, ConfigMixin):
    """x [B,C,H,W], t [B], class_labels [B] -> velocity [B,C,H,W]."""

    @register_to_config
    def __init__(
        self,
        sample_size: int = 16,
        in_channels: int = 1,
        hidden_size: int = 64,
        num_classes: int = 1000,
        class_dropout_prob: float = 0.1,
        path: str = "linear",
    ):
        super().__init__()
        pixels = in_channels * sample_size**2
        self.inner, self.outer = nn.Linear(pixels, hidden_size), nn.Linear(hidden_size, pixels)
        self.times, self.labels = TimestepEmbedder(hidden_size), LabelEmbedder(num_classes, hidden_size)

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "Drift":
        return cls(**preset_config(name, **overrides))

    @property
    def prepared_sizes(self) -> list[int]:
        return [self.config.hidden_size]

    def prepare(self, t: Tensor, class_labels: Tensor) -> Tensor:
        """t [n], class_labels [R] -> what depends on them alone, [n, R, F]."""
        return self.times(t)[:, None] + self.labels(class_labels)

    def forward(
        self, x: Tensor, t: Tensor | None = None, class_labels: Tensor | None = None, *, prepared: Tensor | None = None
    ) -> DriftOutput:
        condition = self.times(t) + self.labels(class_labels) if prepared is None else prepared
        hidden = match_rows(self.inner(x.flatten(1)), condition) + condition
        return DriftOutput(self.outer(silu(hidden)).unflatten(1, x.shape[1:]))
