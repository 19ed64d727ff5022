"""The criterion of bounded entries, measured on a model (arXiv 2502.16490; Alman and Song 2023).

The theorem: if entries of queries, keys and values are bounded by R = o(sqrt(log N)) and heads have width d = O(log N),
attention over N tokens takes almost linear time. Queries may be multiplied by a number and all keys divided by it
without any change, so what bounds on entries say about a model is the bound B = R^2 on its logits: that is measured.
Asymptotics say nothing about one N, so a line must be drawn: a layer is inside if sqrt(B) <= sqrt(ln N) and
d <= WIDTH_FACTOR ln N. Whether low rank then pays at this N is a question of its own, and answered beside it.

A: heads, d: width of a head, N: tokens that a query of the last scale sees, g: degree, r = C(d+g, g): rank.
"""

import math
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.layers.lowrank_attention import LowRankAttention
from flowgression.models.flowar.model import FlowAR
from flowgression.models.flowar.probe import Observed, attention_names, observe
from flowgression.ops.lowrank import (
    MAX_BOUND,
    error_certificate,
    logit_bounds,
    lowrank_attention,
    minimax_exp,
    naive_polynomial_attention,
    rank,
    softmax_attention,
    truncation_factor,
)

WIDTH_FACTOR = 4.0  # the constant in d = O(log N), which the theorem leaves open
LARGEST_DEGREE = 40
SMALLEST_ERROR = 1e-9  # what float64 resolves of any polynomial here
SMALLEST_BOUND = 1e-3  # below it every degree is exact in float64


@dataclass
class LayerReport:
    """One attention of the model; lists have one entry per head.

    Attributes:
        layer: its name in the model. part: transformer, flow head or flow head (cross).
        tokens: N. head_width: d.
        bound: B, the largest |logit| of a pair that the layer compares.
        cauchy_schwarz: max |q| max |k|, the bound on |logit| that lengths alone give.
        centred: B after the mean of all keys is subtracted from them, which changes no softmax. Where it is smaller, it
            is what counts, except in low-rank layers, whose interval is fixed.
        root_log_tokens: sqrt(ln N). largest_value: the largest |v|.
        counting: the bound that counts: the smaller of both, or the half-width of a low-rank layer's interval.
        interval: half-width of the polynomial's interval, the largest bound that counts.
        target_error: over max v - min v.
        degree: of the polynomial for the target error on this interval (a low-rank layer: its own degree); None if
            there is none.
        rank: r. certificate: bound on the error of the output that the polynomial makes, the largest over channels.
        rounding: what float32 may add to it; it grows like exp(2 B), and above the certificate it is what counts.
        error: as measured, both together.
        state_numbers, cache_numbers: memory between scales of one head; None in the flow head, which has none.
        crossover_side: side of the last map from which low rank takes fewer multiplications; in time it lies higher.
        heads_inside: which heads are within the provably efficient regime; inside: all of them.
        pays: low rank takes fewer multiplications here.
    """

    layer: str
    part: str
    tokens: int
    head_width: int
    bound: list[float]
    cauchy_schwarz: list[float]
    centred: list[float]
    root_log_tokens: float
    largest_value: float
    side: int
    counting: list[float] = field(default_factory=list)
    interval: float = 0.0
    target_error: float | None = None
    degree: int | None = None
    rank: int | None = None
    certificate: float | None = None
    rounding: float | None = None
    error: float | None = None
    state_numbers: int | None = None
    cache_numbers: int | None = None
    crossover_side: float | None = None
    heads_inside: list[bool] = field(default_factory=list)
    inside: bool = False
    pays: bool = False


@dataclass
class CriterionReport:
    """All layers of a model, measured with the labels of the images and with the null label, and the verdict."""

    layers: list[LayerReport]
    num_images: int

    @property
    def inside(self) -> bool:
        return all(layer.inside for layer in self.layers)

    @property
    def pays(self) -> bool:
        return all(layer.pays for layer in self.layers)

    @property
    def verdict(self) -> str:
        """One or two plain sentences."""
        return f"{_regime_sentence(self.layers, self.num_images)} {_pays_sentence(self.layers)}"

    def to_dict(self) -> dict[str, Any]:
        return {**asdict(self), "inside": self.inside, "pays": self.pays, "verdict": self.verdict}


def measure_criterion(
    model: FlowAR,
    batches: Iterable[tuple[Tensor, Tensor]],
    *,
    target_error: float | None = None,
    seed: int = 0,
) -> CriterionReport:
    """Measure every attention of `model`, in three passes over the images: mean keys, bounds, errors.

    Every pass reads the images with their labels and with the null label, as guided sampling does.

    Args:
        batches: (latents [B, C, H, H], class_labels [B]), a few; they are kept.
        target_error: error wanted of an attention, over max v - min v; None: 1/N of each layer, as in the theorem.
        seed: of the times and noise that the flow head reads.

    Raises:
        InputError: no images, or a target error outside of [1e-9, 1).
    """
    kept = list(batches)
    if not kept:
        raise InputError("the criterion is measured on images and got none; give at least one batch.")
    if target_error is not None and not SMALLEST_ERROR <= target_error < 1:
        raise InputError(f"target_error is {target_error}; it must lie between {SMALLEST_ERROR:g} and 1.")
    survey = _Survey(target_error)
    for visit in (survey.mean_keys, survey.bounds, survey.errors):
        for index, (latents, labels) in enumerate(kept):
            for given in (labels, torch.full_like(labels, model.config.num_classes)):
                generator = torch.Generator().manual_seed(seed + index)
                observe(model, latents, given, visit, generator=generator)
    layers = [survey.finished(name) for name in attention_names(model)]
    return CriterionReport(layers, sum(len(labels) for _, labels in kept))


@dataclass
class _Survey:
    """What is known of every layer so far."""

    target_error: float | None
    layers: dict[str, LayerReport] = field(default_factory=dict)
    key_sums: dict[str, tuple[Tensor, int]] = field(default_factory=dict)

    def mean_keys(self, seen: Observed) -> None:
        _, k = seen.attention.logit_factors(seen.q, seen.k)
        total, count = self.key_sums.get(seen.name, (torch.zeros(()), 0))
        self.key_sums[seen.name] = (total + k.cpu().double().sum((0, 2)), count + k.shape[0] * k.shape[2])

    def bounds(self, seen: Observed) -> None:
        mean = self._mean_key(seen)
        bounds, lengths, centred = (torch.zeros(seen.q.shape[1], device=seen.q.device) for _ in range(3))
        for q, k, _ in _compared(seen):
            both = logit_bounds(q, k, scale=1.0)
            bounds = torch.maximum(bounds, both.largest.amax(0))
            lengths = torch.maximum(lengths, both.cauchy_schwarz.amax(0))
            centred = torch.maximum(centred, logit_bounds(q, k - mean, scale=1.0).largest.amax(0))
        report = self.layers.setdefault(seen.name, _empty_report(seen))
        report.bound = _maximum(report.bound, bounds)
        report.cauchy_schwarz = _maximum(report.cauchy_schwarz, lengths)
        report.centred = _maximum(report.centred, centred)
        report.largest_value = max(report.largest_value, seen.v.abs().max().item())

    def errors(self, seen: Observed) -> None:
        report = self.layers[seen.name]
        if report.target_error is None:
            self._choose_polynomial(report, seen)
        if report.degree is None:
            return
        dense = report.tokens <= rank(report.head_width, report.degree)  # the same numbers, in less memory
        form: Any = naive_polynomial_attention if dense else lowrank_attention
        shift = self._mean_key(seen) * self._is_centred(report, seen)
        for q, k, v in _compared(seen):
            exact = softmax_attention(q, k, v, scale=1.0).output
            output = form(q, k - shift, v, degree=report.degree, bound=report.interval, scale=1.0).output
            certificate = error_certificate(
                v,
                degree=report.degree,
                bound=report.interval,
                head_dim=report.head_width,
                product_bound=max(report.interval, *report.cauchy_schwarz),
            )
            report.error = max(report.error or 0.0, (output - exact).abs().max().item())
            report.certificate = max(report.certificate or 0.0, certificate.truncation.max().item())
            report.rounding = max(report.rounding or 0.0, certificate.rounding.max().item())

    def finished(self, name: str) -> LayerReport:
        report = self.layers[name]
        log_tokens = report.root_log_tokens**2
        narrow = report.head_width <= WIDTH_FACTOR * log_tokens
        report.heads_inside = [narrow and bound <= log_tokens for bound in report.counting]
        report.inside = all(report.heads_inside)
        if report.degree is not None:
            report.rank = rank(report.head_width, report.degree)
            crossover = report.rank * (report.head_width + 2) / report.head_width
            report.crossover_side = report.side * math.sqrt(crossover / report.tokens)
            report.pays = report.tokens > crossover
            if report.part == "transformer":
                report.state_numbers = report.rank * (report.head_width + 1)
                report.cache_numbers = 2 * report.tokens * report.head_width
        return report

    def _choose_polynomial(self, report: LayerReport, seen: Observed) -> None:
        report.target_error = self.target_error or 1 / report.tokens
        if isinstance(seen.attention, LowRankAttention):
            report.degree, report.interval = seen.attention.degree, seen.attention.max_tau
            report.counting = [report.interval] * len(report.bound)
            return
        report.counting = list(map(min, report.bound, report.centred))
        report.interval = max(SMALLEST_BOUND, 1.0001 * max(report.counting))  # the bounds were measured in float32
        if report.interval <= MAX_BOUND:
            report.degree = smallest_degree(report.interval, report.target_error)

    def _mean_key(self, seen: Observed) -> Tensor:
        """[A, 1, d], of what stands as key in the logits."""
        total, count = self.key_sums[seen.name]
        return (total / count).to(seen.k)[:, None]

    def _is_centred(self, report: LayerReport, seen: Observed) -> Tensor:
        """[A, 1, 1]: 1 where a head is better off with centred keys, else 0."""
        better = [c < b and seen.attention.shift_invariant for b, c in zip(report.bound, report.centred, strict=True)]
        return torch.tensor(better, device=seen.k.device, dtype=seen.k.dtype)[:, None, None]


def smallest_degree(bound: float, target_error: float) -> int | None:
    """The smallest even degree whose certificate, without rounding, is at most `target_error`; None above 40."""
    for degree in range(2, LARGEST_DEGREE + 1, 2):
        if truncation_factor(minimax_exp(degree, bound).eps) <= target_error:
            return degree
    return None


def _compared(seen: Observed) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Per image and scale what is compared: q of the scale, k and v of all that it sees; logits are plain q k^T."""
    q, k = seen.attention.logit_factors(seen.q, seen.k)
    start = 0
    for length in seen.lengths:
        stop = start + length
        visible = slice(0 if seen.attention.causal else start, stop)
        for image in (slice(i, i + 1) for i in range(len(q))):
            yield q[image, :, start:stop], k[image, :, visible], seen.v[image, :, visible]
        start = stop


def _empty_report(seen: Observed) -> LayerReport:
    tokens = sum(seen.lengths) if seen.attention.causal else seen.lengths[-1]
    heads, width = seen.q.shape[1], seen.q.shape[3]
    part = "flow head" if seen.name.startswith("flow_head") else "transformer"
    part += " (cross)" if seen.name.endswith("cross_attn") else ""
    nothing, root = [0.0] * heads, math.sqrt(math.log(tokens))
    side = math.isqrt(seen.lengths[-1])
    return LayerReport(seen.name, part, tokens, width, nothing, nothing, nothing, root, 0.0, side)


def _maximum(known: list[float], new: Tensor) -> list[float]:
    return [max(a, b) for a, b in zip(known, new.tolist(), strict=True)]


def _regime_sentence(layers: list[LayerReport], num_images: int) -> str:
    outside = [layer for layer in layers if not layer.inside]
    if not outside:
        largest = max(layer.interval for layer in layers)
        limit = min(layer.root_log_tokens**2 for layer in layers)
        return (
            f"Inside the provably efficient regime on {num_images} images: all logits are within {largest:.3g}, "
            f"and ln N is {limit:.3g} or more."
        )
    reasons = []
    unbounded = [layer for layer in outside if layer.interval > layer.root_log_tokens**2]
    if unbounded:
        worst = max(unbounded, key=lambda layer: layer.interval)
        reasons.append(
            f"logits exceed ln N in {len(unbounded)} of {len(layers)} layers, most in {worst.layer} with "
            f"{worst.interval:.3g} against {worst.root_log_tokens**2:.3g}"
        )
    wide = [layer for layer in outside if layer.head_width > WIDTH_FACTOR * layer.root_log_tokens**2]
    if wide:
        widest = max(wide, key=lambda layer: layer.head_width)
        reasons.append(
            f"heads are wider than {WIDTH_FACTOR:g} ln N in {len(wide)} of {len(layers)} layers, up to "
            f"{widest.head_width} against {WIDTH_FACTOR * widest.root_log_tokens**2:.3g}"
        )
    return f"Outside the provably efficient regime: {'; '.join(reasons)}."


def _pays_sentence(layers: list[LayerReport]) -> str:
    paying = [layer for layer in layers if layer.pays]
    if len(paying) == len(layers):
        return "Low rank pays in every layer: it takes fewer multiplications than exact attention."
    worst = max((layer for layer in layers if not layer.pays), key=lambda layer: layer.rank or math.inf)
    if worst.rank is None:
        why = (
            f"in {worst.layer} no polynomial follows exp over logits of up to {worst.interval:.3g} to the error wanted"
        )
    else:
        why = f"in {worst.layer} the rank is {worst.rank:,} for {worst.tokens:,} tokens"
    start = "Low rank does not pay" if not paying else f"Low rank pays in {len(paying)} of {len(layers)} layers only"
    return f"{start}: {why}."
