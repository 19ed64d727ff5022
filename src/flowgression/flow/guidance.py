"""Classifier-free guidance (arXiv 2207.12598), in an interval of times (arXiv 2404.07724) and on some channels only.

Its other forms: CFG-Zero* (arXiv 2503.18886, without its zero first steps), which fits the velocity without a class to
that with it before they are compared; guidance at some steps only, and there so much stronger; and autoguidance (arXiv
2406.02507), by the velocity of a worse model of the same class.

Examples that a model reads beside its label can have a scale of their own, as two conditions have in InstructPix2Pix
(arXiv 2211.09800, section 3.2.1).
"""

import math
from dataclasses import dataclass

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean

KINDS = ("cfg", "cfg-zero")
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
    kind: "cfg", or "cfg-zero": v_null is first multiplied, image by image, by <v_cond, v_null> / |v_null|^2.
    every: guide at every so many-th step, the first one among them, with 1 + every (scale - 1) instead of scale, and
        take the conditional velocity at the others: as strong on average for less work.
    by_model: v_null is the velocity of a worse model of the same class, which needs no null label.
    channels: guide the first so many channels (dimension -3) and leave the rest conditional, as the released
        ARFlow and SiT samplers do with 3 of 4; None guides all.
    Raises InputError for values outside these ranges.
    """

    scale: float = 1.0
    interval: tuple[float, float] = (0.0, 1.0)
    channels: int | None = None
    example_scale: float | None = None
    kind: str = "cfg"
    every: int = 1
    by_model: bool = False

    def __post_init__(self) -> None:
        for name, scale in (("guidance_scale", self.scale), ("example_guidance_scale", self.example_scale)):
            if scale is not None and not (math.isfinite(scale) and scale >= 0):
                raise InputError(f"{name} must be a finite number >= 0 (1 is no guidance), not {scale}.")
        if len(self.interval) != 2 or not 0 <= self.interval[0] <= self.interval[1] <= 1:
            raise InputError(
                f"guidance_interval must be (first, last) with 0 <= first <= last <= 1, not {self.interval}."
            )
        if self.kind not in KINDS:
            raise InputError(f"guidance {self.kind!r} is unknown: {did_you_mean(self.kind, KINDS)}")
        if isinstance(self.every, bool) or not isinstance(self.every, int) or self.every < 1:
            raise InputError(f"guidance_every must be a whole number >= 1, not {self.every!r}.")
        if self.example_scale is not None and (self.kind != "cfg" or self.by_model):
            raise InputError(
                "example_guidance_scale and guidance='cfg-zero' or guidance_model cannot be combined: these compare "
                "two velocities, and that compares three."
            )
        if self.channels is not None and self.channels < 1:
            raise InputError(f"guided_channels must be at least 1, or None for all, not {self.channels}.")

    def check_null_label(self, class_dropout_prob: float) -> None:
        """InputError for guidance by a model that was trained without a null label, with this probability of 0."""
        if "null" in self.weights and class_dropout_prob == 0 and not self.by_model:
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
        scale = 1 + self.every * (self.scale - 1)
        examples = scale if self.example_scale is None else 1 + self.every * (self.example_scale - 1)
        others = {"label": scale - examples, "null": 1 - scale}
        return {"cond": examples, **{name: weight for name, weight in others.items() if weight}}

    def active(self, t: float, step: int = 0) -> bool:
        """Whether guidance applies at time t in [0, 1] in the step of this number, from 0."""
        first, last = self.interval
        return self.enabled and step % self.every == 0 and first - _ROUNDING <= t <= last + _ROUNDING

    def combine(self, v_cond: Tensor, *others: Tensor) -> Tensor:
        """The guided velocity, of the shape and dtype of its inputs.

        v_cond, others: those of `weights`, in its order, [..., C, H, W] (any shape if channels is None), equal.
            The first dimension is that of images.
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
        if self.kind == "cfg-zero":
            others = (others[0] * _fitted(v_cond, others[0]),)
        if len(others) == 1:
            return torch.lerp(others[0], v_cond, weights[0])
        return sum((weight * v for weight, v in zip(weights[1:], others, strict=True)), weights[0] * v_cond)


def _fitted(v_cond: Tensor, v_null: Tensor) -> Tensor:
    """The multiple of v_null nearest to v_cond, one number an image, [B, 1, ...]; 1 where v_null is 0."""
    product, square = ((v_null * other).flatten(1).sum(1) for other in (v_cond, v_null))
    fitted = torch.where(square > 0, product / square, 1.0)
    return fitted.reshape(-1, *[1] * (v_null.ndim - 1))
