"""Classifier-free guidance (arXiv 2207.12598), in an interval of times (arXiv 2404.07724) and on some channels only."""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgression.errors import InputError

# Grids are often float32, in which 0.3 is 0.30000001: the ends of an interval belong to it up to floating-point error.
_ROUNDING = 1e-6


@dataclass(frozen=True)
class Guidance:
    """v = v_null + scale (v_cond - v_null), where and when it applies.

    scale: >= 0; 1 is the conditional model alone, 0 the unconditional one.
    interval: (first, last) times of guidance, both included, 0 <= first <= last <= 1; conditional outside.
    guided_channels: guide the first so many channels (dimension -3) and leave the rest conditional, as the released
        ARFlow and SiT samplers do with 3 of 4; None guides all.
    Raises InputError for values outside these ranges.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    guided_channels: int | None = None

    def __post_init__(self) -> None:
        if not (math.isfinite(self.scale) and self.scale >= 0):
            raise InputError(f"guidance_scale must be a finite number >= 0 (1 is no guidance), not {self.scale}.")
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise InputError(
                f"guidance_interval must be (first, last) with 0 <= first <= last <= 1, not {self.interval}."
            )
        if self.guided_channels is not None and self.guided_channels < 1:
            raise InputError(f"guided_channels must be at least 1, or None for all, not {self.guided_channels}.")

    def check_null_label(self, class_dropout_prob: float) -> None:
        """InputError for guidance by a model that was trained without a null label, with this probability of 0."""
        if self.enabled and class_dropout_prob == 0:
            raise InputError(
                f"guidance_scale is {self.scale}, but this model was trained without a null label "
                "(class_dropout_prob = 0); set guidance_scale=1."
            )

    @property
    def enabled(self) -> bool:
        """Whether guidance changes anything at some time; if not, the unconditional half need not run."""
        return self.scale != 1.0

    def active(self, t: float) -> bool:
        """Whether guidance applies at time t in [0, 1]."""
        first, last = self.interval
        return self.enabled and first - _ROUNDING <= t <= last + _ROUNDING

    def combine(self, v_cond: Tensor, v_null: Tensor) -> Tensor:
        """The guided velocity, of the shape and dtype of its inputs.

        v_cond, v_null: [..., C, H, W] (any shape if guided_channels is None), equal. Raises InputError if the shapes
        differ or have fewer channels than guided_channels.
        """
        if v_cond.shape != v_null.shape:
            raise InputError(f"Velocities to guide differ in shape: {list(v_cond.shape)} and {list(v_null.shape)}.")
        k = self.guided_channels
        if k is None:
            return torch.lerp(v_null, v_cond, self.scale)
        if v_cond.ndim < 3 or v_cond.shape[-3] < k:
            raise InputError(f"guided_channels={k} needs [..., C, H, W] with C >= {k}, not {list(v_cond.shape)}.")
        guided = torch.lerp(v_null[..., :k, :, :], v_cond[..., :k, :, :], self.scale)
        return torch.cat((guided, v_cond[..., k:, :, :]), dim=-3)
