"""The exponential moving average of a model's weights."""

import copy
from typing import Any

import torch

from flowgression.training.config import EmaConfig


class Ema:
    """A second copy of `model` whose parameters follow those of the first.

    After each optimisation step: average <- d average + (1 - d) weights, where d is `config.decay`, or with
    `config.warmup` the smaller of that and (1 + n) / (10 + n) at the n-th update. The copy is a whole model, in
    evaluation mode and without gradients, so that it can be sampled from and saved like any other.
    """

    def __init__(self, model: Any, config: EmaConfig) -> None:
        self.config = config
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self._pairs = [
            (average, weight)
            for average, weight in zip(self.model.parameters(), model.parameters(), strict=True)
            if weight.requires_grad
        ]

    def decay(self, updates: int) -> float:
        """The decay of the next update when `updates` have been done."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move the average towards the present weights; `updates` have been done before."""
        averages, weights = zip(*self._pairs, strict=True)
        torch._foreach_lerp_(averages, weights, 1.0 - self.decay(updates))
