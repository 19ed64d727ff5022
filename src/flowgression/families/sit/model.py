"""SiT: the baseline that ARFlow is measured against; the same transformer on single images.

B: batch, C: channels, H W: size, D: width.
"""

from dataclasses import dataclass
from typing import Any

import torch  # noqa: F401, what torch 2.6 compiles runs in this module and says torch
from diffusers.configuration_utils import register_to_config
from diffusers.utils import BaseOutput
from torch import Tensor

from flowgression.families.dit.model import DiffusionTransformer
from flowgression.families.sit.presets import preset_config
from flowgression.layers.self_attention import SelfAttention


@dataclass
class SiTOutput(BaseOutput):
    """velocity: [B, C, H, W], the predicted derivative of x_t by t, x1 - x0 on the linear path."""

    velocity: Tensor

    @property
    def sample(self) -> Tensor:
        """velocity, by diffusers' name for what a transformer gives."""
        return self.velocity


class SiT(DiffusionTransformer):
    """SiT (arXiv 2401.08740) with ARFlow's convention of time: 0 is noise, 1 is data.

    Args and errors as in `flowgression.families.arflow.model.ARFlow`, without `context`, `sequence_length` and `decay`.
    """

    @register_to_config
    def __init__(
        self,
        sample_size: int | tuple[int, int] = 32,
        patch_size: int = 2,
        in_channels: int = 4,
        hidden_size: int = 1152,
        depth: int = 28,
        num_heads: int = 16,
        mlp_ratio: float = 4.0,
        num_classes: int = 1000,
        class_dropout_prob: float = 0.1,
        learn_sigma: bool = True,
        path: str = "linear",
        prediction_type: str = "velocity",
        refine_width: int = 0,
        average_velocity: bool = False,
        dropout: float = 0.0,
        augment_dim: int = 0,
    ):
        super().__init__()
        self._build(lambda: SelfAttention(hidden_size, num_heads))

    @classmethod
    def from_preset(cls, name: str, **overrides: Any) -> "SiT":
        """A new model of a published size, such as "XL/2"; see `presets.py`. Keywords override single values."""
        return cls(**preset_config(name, **overrides))

    def forward(
        self,
        x: Tensor | None = None,
        t: Tensor | None = None,
        class_labels: Tensor | None = None,
        *,
        r: Tensor | None = None,
        augment_labels: Tensor | None = None,
        prepared: Tensor | None = None,
        hidden_states: Tensor | None = None,
        timestep: Tensor | None = None,
        return_dict: bool = True,
    ) -> SiTOutput | tuple[Any, ...]:
        """Predict the velocity.

        Args:
            x: [B, C, H, W], the noisy images.
            t: [B], or [] for all, in [0, 1]; 0 is noise, 1 is data.
            class_labels: [B], int64 in 0 .. num_classes (the last is the null label).
            r: [B], t <= r <= 1: of a model with `average_velocity`, the end of the interval over which the velocity is
                averaged; None: t, the velocity itself.
            augment_labels: [B, augment_dim], what was done to the images (`data.augment`); None: nothing.
            prepared: [R, F], rows of `prepare`, instead of t and class_labels. R is B or a multiple mB of it: the
                velocity then has R rows, of the same images m times.
            hidden_states, timestep: x and t by the names that diffusers gives them.
            return_dict: return a `SiTOutput` instead of a tuple (velocity,).

        Raises:
            InputError: shapes that do not fit the model or each other.
        """
        x, t = self._inputs(x, t, hidden_states, timestep)
        self._check_images(x, "B")
        self._check_conditions(x, t, class_labels, prepared, r)
        velocity, _ = self._velocity(x, t, class_labels, None, False, prepared, r, augment_labels)
        return SiTOutput(velocity) if return_dict else (velocity,)
