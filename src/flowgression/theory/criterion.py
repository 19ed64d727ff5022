"""Can polynomials stand in for exp in the attentions of this model, at this size, and is it worth it?

The theorem (arXiv 2502.16490; Alman and Song 2023) is about growing N: entries of queries, keys and values below R =
o(sqrt(log N)). It says nothing about one N. About one model at one size the certificate does: bounds on queries, keys
and values are measured, and an attention is *approximable* at error E if a polynomial exists whose certificate is at
most E. Low rank is *worth it* (`pays`) if the rank of that polynomial is so small that it takes fewer multiplications.

A: heads, d: width of a head, N: tokens that a query of the last scale sees, B: bound on logits, E: error of an entry of
the attention's output, g: degree, r = C(d+g, g): rank.
"""

import math
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.flowar.approximated import check_one_polynomial
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import Observed, observe
from flowgression.layers.lowrank_attention import PolynomialForm
from flowgression.ops.lowrank import (
    MAX_BOUND,
    error_certificate,
    lowrank_attention,
    minimax_exp,
    naive_polynomial_attention,
    rank,
    softmax_attention,
    truncation_factor,
)
from flowgression.ops.lowrank.minimax import size_rule
from flowgression.ops.lowrank.types import computing_dtype
from flowgression.theory.defaults import MEASURED
from flowgression.theory.degrees import LARGEST_DEGREE, MARGIN
from flowgression.theory.survey import LayerBounds, Run, pays, survey_runs
from flowgression.theory.trajectory import compared, observe_sampling, starting_points

SMALLEST_ERROR = 1e-9  # what float64 resolves of any polynomial here
RESOLVED = 1e-13  # relative error of the closest polynomials that float64 resolves
SMALLEST_BOUND = 1e-3  # below it every degree is exact in float64
INSIDE = 1 + 2.0**-17  # a certificate allows logits this far beyond the bound
BATCH = 8  # images drawn at once


@dataclass
class LayerReport:
    """One attention of the model; lists have one entry per head.

    Attributes:
        layer: its name in the model. part: transformer, flow head or flow head (cross).
        tokens: N. head_width: d. side: of the last map.
        largest_query, largest_key, largest_value: R_q, R_k, R_v: largest |entry|, queries and keys as they stand in the
            logit. spread: largest max v - min v of a channel among the values that a query sees.
        bound: B, the largest |logit| of a pair that the layer compares.
        cauchy_schwarz: max |q| max |k|, the bound on |logit| that lengths alone give.
        centred: B after the mean of all keys is subtracted from them, which changes no softmax.
        root_log_tokens: sqrt(ln N), what the theorem compares R with as N grows; no limit at one N.
        interval: half-width of the polynomial's interval: the smaller of bound and centred, widened by 5 %; or a bound
            by construction; or that of the layer's own polynomial.
        guaranteed: no input can leave the interval. own: the layer has a polynomial in place of exp already.
        target_error: E, of an entry of the output.
        degree: the smallest whose certificate is at most E (own: that of the layer); None if there is none.
        rank: r. certificate: tanh(atanh(eps) / 2) spread, bound on the error that the polynomial makes.
        rounding: bound on what float32 may add; infinite where nothing can be promised.
        error: as measured, both together, against softmax in float64.
        paying_bound: half-width up to which some polynomial of a rank that is worth it has a certificate of at most E;
            0 if no rank is worth it at this N.
        state_numbers, cache_numbers: memory between scales of one head; None in the flow head, which has none.
        crossover_side: side of the last map from which low rank takes fewer multiplications; in time it lies higher.
        approximable: with `degree`, the certificate is at most E. pays: with it, r (d + 2) / d < N. A layer with a
            polynomial of its own may be worth it and approximate no softmax: what was trained with a polynomial needs
            none.
    """

    layer: str
    part: str
    tokens: int
    head_width: int
    side: int
    largest_query: float
    largest_key: float
    largest_value: float
    spread: float
    bound: list[float]
    cauchy_schwarz: list[float]
    centred: list[float]
    root_log_tokens: float
    interval: float
    guaranteed: bool
    own: bool
    target_error: float
    degree: int | None = None
    rank: int | None = None
    certificate: float | None = None
    rounding: float | None = None
    error: float | None = None
    paying_bound: float = 0.0
    state_numbers: int | None = None
    cache_numbers: int | None = None
    crossover_side: float | None = None
    approximable: bool = False
    pays: bool = False

    @property
    def verdict(self) -> str:
        """One plain sentence."""
        if not self.approximable:
            sentence = f"not approximable at error {self.target_error:.3g}: {self._obstacle()}"
            return sentence + ("; as an attention of its own it is worth it" if self.pays else "")
        sentence = f"approximable at error {self.target_error:.3g} with degree {self.degree}: "
        assert self.rank is not None
        if self.pays:
            sentence += f"rank {_count(self.rank)} < {self.tokens:,} tokens, worth it"
        else:
            sentence += f"rank {_count(self.rank)} for {self.tokens:,} tokens, not worth it"
        total = (self.certificate or 0.0) + (self.rounding or 0.0)
        if total > self.target_error:
            promised = f"only {total:.2g}" if math.isfinite(total) else "nothing"
            sentence += f" (in exact arithmetic; in float32 {promised} is certified, {self.error:.2g} measured)"
        return sentence

    def _obstacle(self) -> str:
        logits = f"logits of up to {self.interval:.3g}"
        if self.degree is None:
            return f"no polynomial that float64 resolves follows exp over {logits}"
        met = max(self.bound)
        if met > self.interval * INSIDE:
            return f"logits reach {met:.3g}, beyond the {self.interval:.3g} of its polynomial"
        return (
            f"its polynomial of degree {self.degree} certifies {self.certificate:.2g} over {logits} and values that "
            f"spread by {self.spread:.3g}"
        )

    def to_dict(self) -> dict[str, Any]:
        """For JSON: an infinite rounding is None."""
        rounding = self.rounding if self.rounding is not None and math.isfinite(self.rounding) else None
        return {**asdict(self), "rounding": rounding, "verdict": self.verdict}


@dataclass
class CriterionReport:
    """All layers of a model, and the verdict. num_images: drawn; num_read: read with their labels."""

    layers: list[LayerReport]
    num_images: int
    num_read: int = 0

    @property
    def approximable(self) -> bool:
        return all(layer.approximable for layer in self.layers)

    @property
    def pays(self) -> bool:
        return all(layer.pays for layer in self.layers)

    @property
    def verdict(self) -> str:
        """One or two plain sentences."""
        return f"{_approximable_sentence(self)} {_pays_sentence(self.layers)}"

    def to_dict(self) -> dict[str, Any]:
        facts = {"num_images": self.num_images, "num_read": self.num_read, "layers": [x.to_dict() for x in self.layers]}
        return {**facts, "approximable": self.approximable, "pays": self.pays, "verdict": self.verdict}


def measure_criterion(
    model: FlowAR,
    batches: Iterable[tuple[Tensor, Tensor]] = (),
    *,
    num_images: int = 16,
    target_error: float | None = None,
    seed: int = 0,
    **options: Any,
) -> CriterionReport:
    """Measure every attention of `model` while it draws images, and while it reads those given, if any.

    Three passes over all of them: mean keys, bounds, errors. Images are read with their labels and with the null label,
    as guided sampling does.

    Args:
        batches: (latents [B, C, H, H], class_labels [B]), a few; they are kept.
        num_images: drawn, with labels 0, 1, ... in turn; 0 for none.
        target_error: E, of an entry of an attention's output; None: 1/N of each layer, as in the theorem.
        seed: of the noise of the images drawn, and of the times and noise at which the flow head reads those given.
        options: of the sampling, on top of `theory.defaults.MEASURED`.

    Raises:
        InputError: no images at all, a target error outside of [1e-9, 1), or a model with a polynomial for each head.
    """
    check_one_polynomial(model, "the criterion")
    kept = list(batches)
    if not kept and num_images < 1:
        raise InputError("the criterion is measured on images and got none; let it draw one or more, or give a batch.")
    if target_error is not None and not SMALLEST_ERROR <= target_error < 1:
        raise InputError(f"target_error is {target_error}; it must lie between {SMALLEST_ERROR:g} and 1.")
    options = {**MEASURED, **options}
    runs: list[Run] = []
    if num_images:
        labels, noise = starting_points(model, num_images, seed)
        for first in range(0, num_images, BATCH):
            some = slice(first, first + BATCH)
            runs.append(_drawing(model, labels[some], [each[some] for each in noise], options))
    for index, (latents, given) in enumerate(kept):
        for known in (given, torch.full_like(given, model.config.num_classes)):
            runs.append(_reading(model, latents, known, seed + index))
    measured = survey_runs(runs)
    owners = {name: model.get_submodule(f"{name}.attention") for name in measured}
    reports = {name: _judged(each, owners[name], target_error) for name, each in measured.items()}
    for run in runs:
        run(partial(_measure_errors, measured, reports))
    return CriterionReport(list(reports.values()), num_images, sum(len(labels) for _, labels in kept))


def smallest_degree(bound: float, target_error: float, spread: float = 1.0) -> int | None:
    """The smallest even degree whose certificate, without rounding, is at most `target_error`; None above 40.

    Args:
        bound: B, of the logits. spread: max v - min v.
    """
    for degree in range(2, LARGEST_DEGREE + 1, 2):
        if truncation_factor(minimax_exp(degree, bound).eps) * spread <= target_error:
            return degree
    return None


def largest_bound(degree: int, target_error: float, spread: float = 1.0) -> float:
    """The largest B <= 12 at which the certificate of this degree is at most `target_error`, to one part in a thousand;
    0 if there is none above 0.001.
    """
    low, high = SMALLEST_BOUND, float(MAX_BOUND)

    def reached(bound: float) -> bool:
        if size_rule(degree, bound) < RESOLVED:  # float64 has no polynomial that is closer
            return spread * RESOLVED <= target_error
        return truncation_factor(minimax_exp(degree, bound).eps) * spread <= target_error

    if not reached(low):
        return 0.0
    if reached(high):
        return high
    while high / low > 1.001:
        middle = math.sqrt(low * high)
        low, high = (middle, high) if reached(middle) else (low, middle)
    return low


def _drawing(model: FlowAR, labels: Tensor, noise: list[Tensor], options: dict[str, Any]) -> Run:
    return lambda visit: observe_sampling(model, labels, noise, visit, **options)


def _reading(model: FlowAR, latents: Tensor, labels: Tensor, seed: int) -> Run:
    return lambda visit: observe(model, latents, labels, visit, generator=torch.Generator().manual_seed(seed))


def _judged(measured: LayerBounds, attention: Any, target_error: float | None) -> LayerReport:
    """The report of a layer, without what is to be measured with the polynomial that is chosen here."""
    own = isinstance(attention, PolynomialForm)
    interval, guaranteed = _interval(measured, attention)
    part = "flow head" if measured.in_flow_head else "transformer"
    part += " (cross)" if measured.name.endswith("cross_attn") else ""
    report = LayerReport(
        layer=measured.name,
        part=part,
        tokens=measured.tokens,
        head_width=measured.head_width,
        side=measured.side,
        largest_query=measured.largest_query,
        largest_key=measured.largest_key,
        largest_value=measured.largest_value,
        spread=measured.spread,
        bound=measured.logits.tolist(),
        cauchy_schwarz=measured.lengths.tolist(),
        centred=measured.centred_logits.tolist(),
        root_log_tokens=math.sqrt(math.log(measured.tokens)),
        interval=interval,
        guaranteed=guaranteed,
        own=own,
        target_error=target_error or 1 / max(2, measured.tokens),
    )
    if own:
        report.degree = attention.degree
    elif interval <= MAX_BOUND:
        report.degree = smallest_degree(interval, report.target_error, report.spread)
    if report.degree is not None:
        _count_costs(report, report.degree)
    affordable = [
        g for g in range(2, LARGEST_DEGREE + 1, 2) if pays(report.tokens, report.head_width, rank(report.head_width, g))
    ]
    if affordable:
        report.paying_bound = largest_bound(affordable[-1], report.target_error, report.spread)
    return report


def _interval(measured: LayerBounds, attention: Any) -> tuple[float, bool]:
    """Half-width of the polynomial's interval, and whether no input can leave it."""
    if isinstance(attention, PolynomialForm):
        return attention.bound, measured.guaranteed is not None
    met = torch.minimum(measured.logits, measured.centred_logits).max().item() * MARGIN
    if measured.guaranteed is not None and measured.guaranteed <= met:
        return measured.guaranteed, True
    return max(SMALLEST_BOUND, met), False


def _count_costs(report: LayerReport, degree: int) -> None:
    report.rank = rank(report.head_width, degree)
    report.certificate = truncation_factor(minimax_exp(degree, report.interval).eps) * report.spread
    within = not report.own or max(report.bound) <= report.interval * INSIDE
    report.approximable = within and report.certificate <= report.target_error
    report.pays = pays(report.tokens, report.head_width, report.rank)
    crossover = report.rank * (report.head_width + 2) / report.head_width
    report.crossover_side = report.side * math.sqrt(crossover / report.tokens)
    if report.part == "transformer":
        report.state_numbers = report.rank * (report.head_width + 1)
        report.cache_numbers = 2 * report.tokens * report.head_width


def _measure_errors(measured: dict[str, LayerBounds], reports: dict[str, LayerReport], seen: Observed) -> None:
    """Take in how far the polynomial's output is from softmax, and what float32 may add, in one attention call."""
    report = reports[seen.name]
    if report.degree is None:
        return
    dense = report.tokens <= report.rank  # type: ignore[operator]  # the same numbers, in less memory
    form: Any = naive_polynomial_attention if dense else lowrank_attention
    shift = torch.zeros(()) if report.own else _shift(measured[seen.name])
    for q, k, v in compared(seen.attention, seen.q, seen.k, seen.v, seen.lengths):
        wide = computing_dtype(q, k, v)
        q, k, v = q.to(wide), k.to(wide), v.to(wide)
        exact = softmax_attention(q.double(), k.double(), v.double(), scale=1.0).output
        k = k - shift.to(k)
        output = form(q, k, v, degree=report.degree, bound=report.interval, scale=1.0).output
        lengths = q.norm(dim=-1).amax(-1) * k.norm(dim=-1).amax(-1)
        rounding = error_certificate(
            v,
            degree=report.degree,
            bound=report.interval,
            head_dim=report.head_width,
            product_bound=max(report.interval, lengths.max().item() * (1 + 1e-5)),
            largest_entry=max(1.0, q.abs().max().item(), k.abs().max().item()),
        ).rounding
        report.error = max(report.error or 0.0, (output - exact).abs().max().item())
        report.rounding = max(report.rounding or 0.0, rounding.max().item())


def _shift(measured: LayerBounds) -> Tensor:
    """[A, 1, d]: the mean key of the heads whose logits are smaller with centred keys, 0 for the others."""
    better = measured.centred_logits < measured.logits
    return (measured.mean_key * better[:, None])[:, None]


def _count(number: int) -> str:
    return f"{number:,}" if number < 1e6 else f"{number:.2g}"


def _approximable_sentence(report: CriterionReport) -> str:
    where = [f"{report.num_images} images drawn"] if report.num_images else []
    where += [f"{report.num_read} images read"] if report.num_read else []
    on = f"on {' and '.join(where)}"
    failing = [layer for layer in report.layers if not layer.approximable]
    if not failing:
        degree = max(layer.degree or 0 for layer in report.layers)
        smallest, largest = (pick(x.target_error for x in report.layers) for pick in (min, max))
        error = f"{largest:.3g}" if smallest == largest else f"{smallest:.3g} to {largest:.3g}"
        return f"Every attention is approximable at error {error} with degree {degree} or less, {on}."
    worst = max(failing, key=lambda layer: (layer.degree is None, layer.interval, layer.certificate or 0.0))
    many = f"{len(failing)} of {len(report.layers)} attentions are not approximable {on}"
    return f"{many}, least of all {worst.layer} with logits of up to {worst.interval:.3g}."


def _pays_sentence(layers: list[LayerReport]) -> str:
    paying = [layer for layer in layers if layer.pays]
    if len(paying) == len(layers):
        return "Low rank is worth it in every layer: it takes fewer multiplications than exact attention."
    start = (
        "Low rank is not worth it"
        if not paying
        else f"Low rank is worth it in {len(paying)} of {len(layers)} layers only"
    )
    costly = [layer for layer in layers if layer.degree is not None and not layer.pays]
    if not costly:
        return f"{start}."
    worst = max(costly, key=lambda layer: layer.rank or 0)
    return f"{start}: in {worst.layer} the rank is {_count(worst.rank or 0)} for {worst.tokens:,} tokens."
