"""The exponential moving average of a model's weights."""

import copy
from typing import Any

import torch
from torch import nn
from torch.distributed.tensor import DTensor

from flowgression.training.settings import EmaConfig
from flowgression.training.sharding import local_part


class Ema:
    """A second copy of `model` whose parameters follow those of the first.

    After each optimisation step: average <- d average + (1 - d) weights, where d is `config.decay`, or with
    `config.warmup` the smaller of that and (1 + n) / (10 + n) at the n-th update. The copy is a whole model, in
    evaluation mode and without gradients, so that it can be sampled from and saved like any other.
    """

    def __init__(self, model: Any, config: EmaConfig) -> None:
        self.config = config
        self.model = copy.deepcopy(model).eval().requires_grad_(False)
        self.follow(model)

    @torch.no_grad()
    def follow(self, model: Any) -> None:
        """Follow the parameters of `model` from here on, in the same shards where they are sharded.

        To be called again when `model` has been sharded. The averages then start from its weights.
        """
        weights = dict(model.named_parameters())
        for name, weight in weights.items():
            if isinstance(weight, DTensor):
                owner, _, last = name.rpartition(".")
                average = nn.Parameter(weight.detach().clone(), requires_grad=False)
                setattr(self.model.get_submodule(owner), last, average)
        self._pairs = [
            (average, weights[name]) for name, average in self.model.named_parameters() if weights[name].requires_grad
        ]

    def decay(self, updates: int) -> float:
        """The decay of the next update when `updates` have been done."""
        if not self.config.warmup:
            return self.config.decay
        return min(self.config.decay, (1 + updates) / (10 + updates))

    @torch.no_grad()
    def update(self, updates: int) -> None:
        """Move the average towards the present weights; `updates` have been done before."""
        averages, weights = ([local_part(tensor) for tensor in side] for side in zip(*self._pairs, strict=True))
        torch._foreach_lerp_(averages, weights, 1.0 - self.decay(updates))
