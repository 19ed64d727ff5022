"""The same FlowAR with polynomials in place of exp: which degrees it takes for a wanted error of the images.

arXiv 2502.16490 claims that under bounded entries an algorithm of time n^(2+o(1)) approximates a given FlowAR to an
error of 1/poly(n). Here the bounds are measured on the model and degrees chosen for an error E of the whole output.

N: tokens that a query of the last scale sees, d: width of a head, g: degree, r = C(d+g, g): rank, B: bound on logits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, get_args

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.families.flowar.approximated import with_polynomials
from flowgression.families.flowar.model import FlowAR
from flowgression.ops.lowrank import rank
from flowgression.ops.lowrank.minimax import check_degree
from flowgression.theory.defaults import MEASURED
from flowgression.theory.degrees import Bounds, by_heads, equal_heads, largest_certificate, raised
from flowgression.theory.error.estimate import estimate_output
from flowgression.theory.error.polynomial import LayerPolynomial
from flowgression.theory.survey import LayerBounds, pays, survey
from flowgression.theory.trajectory import starting_points


@dataclass(frozen=True)
class LayerChoice:
    """What one attention is given.

    Attributes:
        name: of the layer. tokens: N. head_width: d. num_heads: A.
        query_bound, key_bound, value_bound: R_q, R_k, R_v: largest |entry|, queries and keys as they stand in the
            logit.
        logit_bound: B, half-width of the polynomial's interval. guaranteed: no input can leave it.
        degree: g. rank: r. epsilon: largest relative error of a weight. Largest over heads, as logit_bound is.
        degrees: g of each head, where they have polynomials of their own; else empty.
        certificate: bound on the error of one call, in Euclidean norm over a head:
            tanh(atanh(eps) / 2) max |v_i - v_j|.
        share: first-order estimate of the largest error of the output that this layer makes alone.
        pays: r (d + 2) / d < N with the mean r of the heads: low rank takes fewer multiplications than exact attention.
    """

    name: str
    tokens: int
    head_width: int
    num_heads: int
    query_bound: float
    key_bound: float
    value_bound: float
    logit_bound: float
    guaranteed: bool
    degree: int
    rank: int
    epsilon: float
    certificate: float
    share: float
    pays: bool
    degrees: tuple[int, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Approximation:
    """Polynomials for all layers of a model, and why these.

    target_error: E, of the output; None where a degree or a certificate was given.
    estimate: first-order estimate of the largest error of the output on the images of the survey, all layers together.
    """

    target_error: float | None
    estimate: float
    layers: tuple[LayerChoice, ...]
    polynomials: Mapping[str, LayerPolynomial]

    @property
    def pays(self) -> bool:
        return all(layer.pays for layer in self.layers)

    @property
    def verdict(self) -> str:
        """One plain sentence about this model at this size; asymptotics say nothing about one N."""
        degree = max(layer.degree for layer in self.layers)
        largest = max(self.layers, key=lambda layer: (layer.rank / layer.tokens, layer.rank))
        compared = f"rank {largest.rank:,} {'<' if largest.rank < largest.tokens else '>='} {largest.tokens:,} tokens"
        error = f"{self.estimate:.1g} (estimated)" if self.target_error is None else f"{self.target_error:g}"
        several = any(layer.degrees for layer in self.layers)
        start = f"approximable at error {error} with {'degrees up to' if several else 'degree'} {degree}: {compared}"
        if self.pays:
            return f"{start}, worth it in every layer"
        paying = sum(layer.pays for layer in self.layers)
        if paying:
            return f"{start}, worth it in {paying} of {len(self.layers)} layers"
        return f"{start}, not worth it: low rank takes more multiplications than exact attention"


def approximate(
    model: FlowAR,
    target_error: float | None = None,
    *,
    bounds: Bounds = "measured",
    degree: int | None = None,
    certificate: float | None = None,
    num_images: int = 8,
    seed: int = 0,
    class_labels: Tensor | None = None,
    noise: Sequence[Tensor] | None = None,
    require_gain: bool = False,
    return_report: bool = False,
    **options: Any,
) -> Any:
    """The weights of `model` with polynomials in place of exp, in time almost quadratic in H (arXiv 2502.16490).

    Bounds on queries, keys and values are measured while images are drawn, and each attention gets the polynomial of
    the smallest degree with which the estimated error of the whole output is at most `target_error`.

    Args:
        model: with attention "exact" or "bounded", in evaluation mode.
        target_error, bounds, degree, certificate: see `choose_polynomials`; give a target, a degree or a certificate.
        num_images, seed: the images that are measured; or class_labels [B] and noise, one tensor [B, s_k^2, P P C] a
            scale.
        require_gain: refuse unless low rank takes fewer multiplications in every layer.
        return_report: return (`Approximation`, FlowAR).
        options: of the sampling that is measured, on top of `theory.defaults.MEASURED`.

    Returns:
        A new FlowAR; with return_report=True an `Approximation` and the FlowAR.

    Raises:
        InputError: see `choose_polynomials`; or `require_gain` and a rank that is not worth it, with the layer.
    """
    if sum(each is not None for each in (target_error, degree, certificate)) != 1:
        raise InputError(
            "give one of target_error, the error wanted of the output; degree, the same for all layers; and "
            "certificate, the bound wanted of every attention call."
        )
    check_model(model)
    if class_labels is None or noise is None:
        class_labels, noise = starting_points(model, num_images, seed)
    options = {**MEASURED, **options}
    chosen: dict[str, Any] = {"degree": degree, "certificate": certificate}
    if target_error is None and not (require_gain or return_report):  # nothing asks how large the error is
        check_target(None, bounds, certificate)
        measured = survey(model, class_labels, noise, **options)
        return approximated_by(model, polynomials_of(measured, bounds, **chosen))
    approximation = choose_polynomials(
        model, class_labels, noise, target_error=target_error, bounds=bounds, **chosen, **options
    )
    if require_gain and not approximation.pays:
        worst = max(approximation.layers, key=lambda layer: layer.rank / layer.tokens)
        raise InputError(
            f"low rank is not worth it in {worst.name}: degree {worst.degree} in heads of width {worst.head_width} has "
            f"rank {worst.rank:,} for {worst.tokens:,} tokens. Narrower heads, a larger error or larger maps would."
        )
    approximated = approximated_by(model, approximation.polynomials)
    return (approximation, approximated) if return_report else approximated


def polynomials_of(
    measured: Mapping[str, LayerBounds], bounds: Bounds, *, degree: int | None = None, certificate: float | None = None
) -> dict[str, LayerPolynomial]:
    """By layer, the polynomials of this degree, or of the smallest degree of each head with this certificate.

    No error of the output is estimated, which costs several times what drawing the images does. Arguments and errors as
    of `choose_polynomials`; degree 2 where neither is given.
    """
    if certificate is None:
        check_degree(degree or 2)
        return {name: equal_heads(each, bounds, degree or 2) for name, each in measured.items()}
    return {name: by_heads(each, bounds, certificate) for name, each in measured.items()}


def approximated_by(model: FlowAR, polynomials: Mapping[str, LayerPolynomial]) -> Any:
    """A copy of `model` with these polynomials in place of exp."""
    return with_polynomials(
        model,
        {name: _pairs(polynomial) for name, polynomial in polynomials.items()},
        {name: polynomial.shift for name, polynomial in polynomials.items() if polynomial.shift is not None},
    )


def _pairs(polynomial: LayerPolynomial) -> Any:
    """One pair where all heads have the same: it is the faster form, and what circuits read."""
    return polynomial.heads if len(set(polynomial.heads)) > 1 else polynomial.heads[0]


@torch.no_grad()
def choose_polynomials(
    model: FlowAR,
    class_labels: Tensor,
    noise: Sequence[Tensor],
    *,
    target_error: float | None = None,
    bounds: Bounds = "measured",
    degree: int | None = None,
    certificate: float | None = None,
    **options: Any,
) -> Approximation:
    """Choose a polynomial for every attention of `model`, of the smallest degrees that reach the error.

    Every layer starts at degree 2. The error that it makes in the output alone is estimated by differentiation and
    falls about as the eps of its polynomial; the layer that makes the largest error gets the next degree until the sum
    over layers is at most `target_error`. The estimate for all together then confirms it, or asks for more.

    Args:
        model: with attention "exact" or "bounded".
        class_labels: [B]. noise: one tensor [B, s_k^2, P P C] a scale; the trajectories that are measured.
        target_error: E > 0, largest |difference| of the output (latents, or pixels in [-1, 1]).
        bounds: "measured": the largest logit met on the trajectories, keys centred where that helps, widened by 5 %;
            "cauchy-schwarz": the product of the largest lengths, and where logits are bounded by construction that
            bound, which holds for every input.
        degree: this degree in all layers instead.
        certificate: instead, each head gets the smallest degree with which its certificate, the bound on the error of
            one call in Euclidean norm, is at most this. Heads of small logits then take degree 2.
        options: of `flowgression.families.flowar.sampling.sample`: steps, guidance.

    Raises:
        InputError: a model of low rank, a target that is not positive, or logits over which no polynomial reaches it.
    """
    check_model(model)
    check_target(target_error, bounds, certificate)
    measured = survey(model, class_labels, noise, **options)
    start = polynomials_of(measured, bounds, degree=degree, certificate=certificate)
    shares = estimate_output(model, start, class_labels, noise, **options).shares()
    polynomials, allowed = start, target_error or math.inf
    while True:
        if target_error is not None:
            polynomials = raised(start, shares, allowed)
        difference = estimate_output(model, polynomials, class_labels, noise, together=True, **options).difference
        estimate = difference.abs().max().item()
        if target_error is None or estimate <= target_error:
            break
        allowed *= min(0.5, target_error / estimate)  # errors fell more slowly than the eps of the polynomials
    choices = []
    for name, each in measured.items():
        polynomial = polynomials[name]
        share = shares[name] * polynomial.epsilon / start[name].epsilon
        choices.append(_choice(each, polynomial, share, bounds))
    return Approximation(target_error, estimate, tuple(choices), polynomials)


def check_model(model: FlowAR) -> None:
    """InputError unless the attention of `model` is a softmax, and its samples are drawn by a velocity alone."""
    if len(model.flow_heads) > 1:
        raise InputError(
            f"a {type(model).__name__} has {len(model.flow_heads)} flow heads; only a FlowAR is approximated."
        )
    if model.config.attention == "lowrank" or getattr(model.config, "approximation", None):
        raise InputError(
            "this model has polynomials in place of exp already; give one with attention 'exact' or 'bounded'."
        )


def check_target(target_error: float | None, bounds: str, certificate: float | None = None) -> None:
    """InputError unless the error or certificate wanted, where there is one, is positive, and `bounds` known."""
    for name, value in (("target_error", target_error), ("certificate", certificate)):
        if value is not None and not (math.isfinite(value) and value > 0):
            raise InputError(f"{name} is {value}; expected a number > 0, such as 0.01.")
    if bounds not in get_args(Bounds):
        raise InputError(f"unknown bounds {bounds!r}: {did_you_mean(bounds, get_args(Bounds))}")


def _choice(layer: LayerBounds, polynomial: LayerPolynomial, share: float, bounds: Bounds) -> LayerChoice:
    degrees = tuple(degree for degree, _ in polynomial.heads)
    ranks = [rank(layer.head_width, degree) for degree in degrees]
    guarantees = layer.guarantees
    return LayerChoice(
        name=layer.name,
        tokens=layer.tokens,
        head_width=layer.head_width,
        num_heads=layer.num_heads,
        query_bound=layer.largest_query,
        key_bound=layer.largest_key,
        value_bound=layer.largest_value,
        logit_bound=polynomial.bounds.max().item(),
        guaranteed=guarantees is not None and bool((polynomial.bounds >= guarantees).all()),
        degree=max(degrees),
        rank=max(ranks),
        epsilon=polynomial.epsilon,
        certificate=largest_certificate(layer, polynomial),
        share=share,
        pays=pays(layer.tokens, layer.head_width, sum(ranks) / len(ranks)),
        degrees=degrees if len(degrees) > 1 else (),
    )
