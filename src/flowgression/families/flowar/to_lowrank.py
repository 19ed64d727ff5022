"""From a trained FlowAR to a FastFlowAR: the weights stay, the attention is replaced, what it needs is measured.

A trained model has logits q.k / sqrt(d) with queries and keys of any length; low-rank attention has tau times a cosine.
With keys centred and lengths replaced by their means, tau is the product of the mean lengths over sqrt(d). Queries and
keys do vary in length, and tau is cut at its bound: the result is a start for fine-tuning, not the same model.

B: images, A: heads, d: width of a head, L: tokens.
"""

from collections.abc import Iterable
from dataclasses import dataclass, field

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import Observed, observe
from flowgression.layers.lowrank_attention import LowRankAttention


@dataclass(frozen=True)
class Measured:
    """Per head of a layer: tau by the mean lengths of queries and centred keys, and what it was cut to; both [A]."""

    tau: Tensor
    used: Tensor


@dataclass
class _Sums:
    """Sums over tokens of images: of keys, of the lengths of queries, of the lengths of centred keys."""

    count: int = 0
    keys: Tensor | float = 0.0
    query_lengths: Tensor | float = 0.0
    key_lengths: Tensor | float = 0.0


@dataclass
class _Statistics:
    layers: dict[str, _Sums] = field(default_factory=dict)

    def add_keys(self, seen: Observed) -> None:
        sums = self.layers.setdefault(seen.name, _Sums())
        sums.count += seen.k.shape[0] * seen.k.shape[2]
        sums.keys += _wide(seen.k).sum((0, 2))
        sums.query_lengths += _wide(seen.q).norm(dim=-1).sum((0, 2))

    def add_lengths(self, seen: Observed) -> None:
        sums = self.layers[seen.name]
        centred = _wide(seen.k) - (sums.keys / sums.count)[:, None]  # type: ignore[index]
        sums.key_lengths += centred.norm(dim=-1).sum((0, 2))


def to_lowrank(
    model: FlowAR,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    degree: int = 2,
    max_tau: float = 2.0,
    seed: int = 0,
) -> tuple[FlowAR, dict[str, Measured]]:
    """A FastFlowAR with the weights of `model`, and per layer the tau that was measured.

    Args:
        model: with exact attention.
        batches: a few (latents [B, C, H, H], class_labels [B]) like those the model was trained on.
        degree: of the polynomial, even; max_tau: bound on tau in (0, 5].
        seed: of the times and noise at which the flow head is measured.

    Raises:
        InputError: a model that is of low rank already, no batches, or a degree, tau or rank out of range.
    """
    if model.config.attention != "exact":
        raise InputError("this model has low-rank attention already; give one with exact attention.")
    arguments = {name: value for name, value in model.config.items() if not name.startswith("_")}
    arguments |= {
        "attention": "lowrank",
        "attention_degree": degree,
        "attention_max_tau": max_tau,
        "attention_dropout": 0.0,
    }
    fast = FlowAR(**arguments).to(model.device)
    kept = list(batches)
    if not kept:
        raise InputError("no images were given; tau and the centre of the keys are measured on some, 100 will do.")
    statistics = _Statistics()
    for visit in (statistics.add_keys, statistics.add_lengths):
        for index, (latents, labels) in enumerate(kept):
            generator = torch.Generator().manual_seed(seed + index)
            observe(model, latents.to(model.device), labels.to(model.device), visit, generator=generator)
    missing, unexpected = fast.load_state_dict(model.state_dict(), strict=False)
    assert not unexpected
    assert all(name.endswith(("tau_logit", "centre")) for name in missing)
    return fast.train(model.training), {name: _install(fast, name, s) for name, s in statistics.layers.items()}


def _wide(x: Tensor) -> Tensor:
    return x.cpu().double()  # not every device has float64


def _install(fast: FlowAR, name: str, sums: _Sums) -> Measured:
    attention = fast.get_submodule(f"{name}.attention")
    assert isinstance(attention, LowRankAttention)
    keys, query_lengths, key_lengths = (
        torch.as_tensor(total) / sums.count for total in (sums.keys, sums.query_lengths, sums.key_lengths)
    )
    tau = (query_lengths * key_lengths / attention.centre.shape[-1] ** 0.5).clamp(min=1e-6)
    attention.centre.copy_(keys)
    attention.set_tau(tau)
    return Measured(tau.cpu(), attention.tau.detach().cpu())
