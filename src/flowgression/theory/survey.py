"""What bounds the logits and values of every attention of a FlowAR, measured while it draws images or reads them.

B: images, A: heads, d: width of a head, N: tokens that a query of the last scale sees.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import Observed
from flowgression.layers.bounded_attention import CosineLogits
from flowgression.theory.trajectory import compared, observe_sampling

Run = Callable[[Callable[[Observed], None]], Any]
"""Something that a model does, with a function to be called at every attention on the way."""

_ROWS = 1024  # queries whose logits are made at once


def _none() -> Tensor:
    return torch.zeros((), dtype=torch.float64)


@dataclass
class LayerBounds:
    """One attention. Entries are those of q and k as they stand in the logits (q.k is the logit), and of the values.

    Attributes:
        name: of the layer. tokens: N. head_width: d. num_heads: A.
        largest_query, largest_key, largest_value: R_q, R_k, R_v, the largest |entry|.
        logits: [A], the largest |q.k| of a pair that is compared, per head. centred_logits: the same with the mean key
            subtracted. lengths: max |q| max |k|, the bound of Cauchy and Schwarz.
        logit, centred, by_lengths: the largest of each over heads.
        guarantees: [A], a bound on |q.k| that holds for every input, by construction; None where there is none.
            guaranteed: the largest.
        diameters: [A], an upper bound on max |v_i - v_j| in Euclidean norm. diameter: the largest.
        spread: the largest max v - min v of one channel.
        side: of the last map.
        mean_key: [A, d].
    """

    name: str
    tokens: int
    head_width: int
    num_heads: int
    guarantees: Tensor | None
    mean_key: Tensor
    largest_query: float = 0.0
    largest_key: float = 0.0
    largest_value: float = 0.0
    spread: float = 0.0
    side: int = 0
    logits: Tensor = field(default_factory=_none)
    centred_logits: Tensor = field(default_factory=_none)
    lengths: Tensor = field(default_factory=_none)
    diameters: Tensor = field(default_factory=_none)
    _keys: int = 0

    @property
    def logit(self) -> float:
        return self.logits.max().item()

    @property
    def centred(self) -> float:
        return self.centred_logits.max().item()

    @property
    def by_lengths(self) -> float:
        return self.lengths.max().item()

    @property
    def guaranteed(self) -> float | None:
        return None if self.guarantees is None else self.guarantees.max().item()

    @property
    def diameter(self) -> float:
        return self.diameters.max().item()

    @property
    def in_flow_head(self) -> bool:
        return self.name.startswith("flow_head")


def pays(tokens: int, head_width: int, size: float) -> bool:
    """Whether low rank r = `size` takes fewer multiplications than exact attention: r (d + 2) / d < N."""
    return size * (head_width + 2) / head_width < tokens


def survey(model: FlowAR, class_labels: Tensor, noise: Sequence[Tensor], **options: Any) -> dict[str, LayerBounds]:
    """Measure every attention of `model` in two runs of the sampler, the first for the mean keys.

    Args:
        class_labels: [B]. noise: one tensor [B, s_k^2, P P C] a scale.
        options: of `flowgression.families.flowar.sampling.sample`: steps, guidance.
    """
    return survey_runs([lambda visit: observe_sampling(model, class_labels, noise, visit, **options)])


def survey_runs(runs: Sequence[Run]) -> dict[str, LayerBounds]:
    """Measure every attention that `runs` meet, in two passes over them, the first for the mean keys."""
    layers: dict[str, LayerBounds] = {}
    sums: dict[str, Tensor] = {}

    def mean_keys(seen: Observed) -> None:
        bounds = layers.setdefault(seen.name, _empty(seen))
        bounds.tokens = max(bounds.tokens, sum(seen.lengths) if seen.attention.causal else max(seen.lengths))
        _, k = seen.attention.logit_factors(seen.q, seen.k)
        sums[seen.name] = sums.get(seen.name, 0.0) + k.double().sum((0, 2)).cpu()  # type: ignore[operator]
        bounds._keys += k.shape[0] * k.shape[2]
        bounds.side = max(bounds.side, math.isqrt(max(seen.lengths)))

    def measure(seen: Observed) -> None:
        bounds = layers[seen.name]
        for q, k, v in compared(seen.attention, seen.q, seen.k, seen.v, seen.lengths):
            _measure(bounds, q.double(), k.double(), v.double())

    for run in runs:
        run(mean_keys)
    for name, total in sums.items():
        layers[name].mean_key = total / layers[name]._keys
    for run in runs:
        run(measure)
    return layers


def _empty(seen: Observed) -> LayerBounds:
    attention = seen.attention
    guarantees = attention.tau.detach().double().cpu() if isinstance(attention, CosineLogits) else None
    heads, width = seen.q.shape[1], seen.q.shape[3]
    return LayerBounds(seen.name, 0, width, heads, guarantees, torch.zeros(heads, width, dtype=torch.float64))


def _measure(bounds: LayerBounds, q: Tensor, k: Tensor, v: Tensor) -> None:
    """Take in what one scale compares: q [B, A, M, d], k and v [B, A, N, d]."""
    centred = k - bounds.mean_key[:, None].to(k)
    for rows in q.split(_ROWS, dim=2):
        bounds.logits = torch.maximum(bounds.logits, (rows @ k.mT).abs().amax((0, 2, 3)).cpu())
        bounds.centred_logits = torch.maximum(bounds.centred_logits, (rows @ centred.mT).abs().amax((0, 2, 3)).cpu())
    lengths = q.norm(dim=-1).amax((0, 2)) * k.norm(dim=-1).amax((0, 2))
    bounds.lengths = torch.maximum(bounds.lengths, lengths.cpu())
    middle = v.mean(-2, keepdim=True)
    bounds.diameters = torch.maximum(bounds.diameters, 2 * (v - middle).norm(dim=-1).amax((0, 2)).cpu())
    bounds.spread = max(bounds.spread, (v.amax(-2) - v.amin(-2)).max().item())
    bounds.largest_query = max(bounds.largest_query, q.abs().max().item())
    bounds.largest_key = max(bounds.largest_key, k.abs().max().item())
    bounds.largest_value = max(bounds.largest_value, v.abs().max().item())
