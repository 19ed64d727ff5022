"""Classifier-free guidance (arXiv 2207.12598), in an interval of times (arXiv 2404.07724) and on some channels only.

Examples that a model reads beside its label can have a scale of their own, as two conditions have in InstructPix2Pix
(arXiv 2211.09800, section 3.2.1).
"""

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

    With a scale of examples v = v_null + scale (v_label - v_null) + example_scale (v_cond - v_label), where v_cond
    reads label and examples, v_label the label alone, and v_null neither; with equal scales this is the above.

    scale: >= 0; 1 is the conditional model alone, 0 the unconditional one.
    example_scale: >= 0; None is `scale`.
    interval: (first, last) times of guidance, both included, 0 <= first <= last <= 1; conditional outside.
    channels: guide the first so many channels (dimension -3) and leave the rest conditional, as the released
        ARFlow and SiT samplers do with 3 of 4; None guides all.
    Raises InputError for values outside these ranges.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    channels: int | None = None
    example_scale: float | None = None

    def __post_init__(self) -> None:
        for name, scale in (("guidance_scale", self.scale), ("example_guidance_scale", self.example_scale)):
            if scale is not None and not (math.isfinite(scale) and scale >= 0):
                raise InputError(f"{name} must be a finite number >= 0 (1 is no guidance), not {scale}.")
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise InputError(
                f"guidance_interval must be (first, last) with 0 <= first <= last <= 1, not {self.interval}."
            )
        if self.channels is not None and self.channels < 1:
            raise InputError(f"guided_channels must be at least 1, or None for all, not {self.channels}.")

    def check_null_label(self, class_dropout_prob: float) -> None:
        """InputError for guidance by a model that was trained without a null label, with this probability of 0."""
        if "null" in self.weights and class_dropout_prob == 0:
            raise InputError(
                f"guidance_scale is {self.scale}, but this model was trained without a null label "
                "(class_dropout_prob = 0); set guidance_scale=1."
            )

    @property
    def enabled(self) -> bool:
        """Whether guidance changes anything at some time; if not, the conditional rows run alone."""
        return len(self.weights) > 1

    @property
    def weights(self) -> dict[str, float]:
        """How much each velocity counts, those that count: "cond", "label" and "null", in this order; 1 in all."""
        examples = self.scale if self.example_scale is None else self.example_scale
        others = {"label": self.scale - examples, "null": 1 - self.scale}
        return {"cond": examples, **{name: weight for name, weight in others.items() if weight}}

    def active(self, t: float) -> bool:
        """Whether guidance applies at time t in [0, 1]."""
        first, last = self.interval
        return self.enabled and first - _ROUNDING <= t <= last + _ROUNDING

    def combine(self, v_cond: Tensor, *others: Tensor) -> Tensor:
        """The guided velocity, of the shape and dtype of its inputs.

        v_cond, others: those of `weights`, in its order, [..., C, H, W] (any shape if channels is None), equal.
        Raises InputError if the shapes differ, have fewer channels than `channels`, or are not as many.
        """
        for other in others:
            if v_cond.shape != other.shape:
                raise InputError(f"Velocities to guide differ in shape: {list(v_cond.shape)} and {list(other.shape)}.")
        if len(others) != max(len(self.weights) - 1, 1):
            raise InputError(f"{1 + len(others)} velocities to guide; expected those of {', '.join(self.weights)}.")
        k = self.channels
        if k is None:
            return self._mixed(v_cond, *others)
        if v_cond.ndim < 3 or v_cond.shape[-3] < k:
            raise InputError(f"guided_channels={k} needs [..., C, H, W] with C >= {k}, not {list(v_cond.shape)}.")
        guided = self._mixed(*(v[..., :k, :, :] for v in (v_cond, *others)))
        return torch.cat((guided, v_cond[..., k:, :, :]), dim=-3)

    def _mixed(self, v_cond: Tensor, *others: Tensor) -> Tensor:
        weights = list(self.weights.values())
        if len(others) == 1:
            return torch.lerp(others[0], v_cond, weights[0])
        return sum((weight * v for weight, v in zip(weights[1:], others, strict=True)), weights[0] * v_cond)
