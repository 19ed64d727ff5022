"""The same FlowAR with polynomials in place of exp: which degrees it takes for a wanted error of the images.

arXiv 2502.16490 claims that under bounded entries an algorithm of time n^(2+o(1)) approximates a given FlowAR to an
error of 1/poly(n). Here the bounds are measured on the model and degrees chosen for an error E of the whole output.

N: tokens that a query of the last scale sees, d: width of a head, g: degree, r = C(d+g, g): rank, B: bound on logits.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal, get_args

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.families.flowar.approximated import with_polynomials
from flowgression.families.flowar.model import FlowAR
from flowgression.ops.lowrank import MAX_BOUND, rank, truncation_factor
from flowgression.ops.lowrank.minimax import check_degree, size_rule
from flowgression.theory.defaults import MEASURED
from flowgression.theory.error.estimate import estimate_output
from flowgression.theory.error.polynomial import LayerPolynomial
from flowgression.theory.survey import LayerBounds, pays, survey
from flowgression.theory.trajectory import starting_points

Bounds = Literal["measured", "cauchy-schwarz"]
MARGIN = 1.05  # other noise meets other logits: measured bounds are widened by this
LARGEST_DEGREE = 40
SMALLEST_EPSILON = 1e-13  # what float64 resolves of a polynomial


@dataclass(frozen=True)
class LayerChoice:
    """What one attention is given.

    Attributes:
        name: of the layer. tokens: N. head_width: d. num_heads: A.
        query_bound, key_bound, value_bound: R_q, R_k, R_v: largest |entry|, queries and keys as they stand in the
            logit.
        logit_bound: B, half-width of the polynomial's interval. guaranteed: no input can leave it.
        degree: g. rank: r. epsilon: largest relative error of a weight.
        certificate: bound on the error of one call, in Euclidean norm over a head:
            tanh(atanh(eps) / 2) max |v_i - v_j|.
        share: first-order estimate of the largest error of the output that this layer makes alone.
        pays: r (d + 2) / d < N: low rank takes fewer multiplications than exact attention.
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

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)


@dataclass(frozen=True)
class Approximation:
    """Polynomials for all layers of a model, and why these.

    target_error: E, of the output; None where a degree was given.
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
        start = f"approximable at error {error} with degree {degree}: {compared}"
        if self.pays:
            return f"{start}, pays in every layer"
        paying = sum(layer.pays for layer in self.layers)
        if paying:
            return f"{start}, pays in {paying} of {len(self.layers)} layers"
        return f"{start}, does not pay: low rank takes more multiplications than exact attention"


def approximate(
    model: FlowAR,
    target_error: float | None = None,
    *,
    bounds: Bounds = "measured",
    degree: int | None = None,
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
        target_error, bounds, degree: see `choose_polynomials`; give a target or a degree.
        num_images, seed: the images that are measured; or class_labels [B] and noise, one tensor [B, s_k^2, P P C] a
            scale.
        require_gain: refuse unless low rank takes fewer multiplications in every layer.
        return_report: return (`Approximation`, FlowAR).
        options: of the sampling that is measured, on top of `theory.defaults.MEASURED`.

    Returns:
        A new FlowAR; with return_report=True an `Approximation` and the FlowAR.

    Raises:
        InputError: see `choose_polynomials`; or `require_gain` and a rank that does not pay, with the layer.
    """
    if (target_error is None) == (degree is None):
        raise InputError("give target_error, the error wanted of the output, or degree, the same for all layers.")
    check_model(model)
    if class_labels is None or noise is None:
        class_labels, noise = starting_points(model, num_images, seed)
    options = {**MEASURED, **options}
    if degree is not None and not (require_gain or return_report):  # nothing asks how large the error is
        return of_degree(model, class_labels, noise, degree, bounds=bounds, **options)[0]
    approximation = choose_polynomials(
        model, class_labels, noise, target_error=target_error, bounds=bounds, degree=degree, **options
    )
    if require_gain and not approximation.pays:
        worst = max(approximation.layers, key=lambda layer: layer.rank / layer.tokens)
        raise InputError(
            f"low rank does not pay in {worst.name}: degree {worst.degree} in heads of width {worst.head_width} has "
            f"rank {worst.rank:,} for {worst.tokens:,} tokens. Narrower heads, a larger error or larger maps would."
        )
    approximated = _with(model, approximation.polynomials)
    return (approximation, approximated) if return_report else approximated


@torch.no_grad()
def of_degree(
    model: FlowAR, class_labels: Tensor, noise: Sequence[Tensor], degree: int, *, bounds: Bounds, **options: Any
) -> tuple[Any, float]:
    """The FlowAR with a polynomial of this degree in all layers, and the largest certificate of a call.

    The error of the output is not estimated, which costs several times what drawing the images does. Arguments and
    errors as of `choose_polynomials`.
    """
    check_model(model)
    check_target(None, bounds)
    check_degree(degree)
    measured = survey(model, class_labels, noise, **options)
    polynomials = {name: _start(each, bounds, degree) for name, each in measured.items()}
    certificate = max(_certificate(measured[name], each) for name, each in polynomials.items())
    return _with(model, polynomials), certificate


def _with(model: FlowAR, polynomials: Mapping[str, LayerPolynomial]) -> Any:
    return with_polynomials(
        model,
        {name: (polynomial.degree, polynomial.bound) for name, polynomial in polynomials.items()},
        {name: polynomial.shift for name, polynomial in polynomials.items() if polynomial.shift is not None},
    )


def _certificate(layer: LayerBounds, polynomial: LayerPolynomial) -> float:
    """Bound on the error of one call of a layer, in Euclidean norm over a head."""
    return truncation_factor(polynomial.epsilon) * layer.diameter


@torch.no_grad()
def choose_polynomials(
    model: FlowAR,
    class_labels: Tensor,
    noise: Sequence[Tensor],
    *,
    target_error: float | None = None,
    bounds: Bounds = "measured",
    degree: int | None = None,
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
        options: of `flowgression.families.flowar.sampling.sample`: steps, guidance.

    Raises:
        InputError: a model of low rank, a target that is not positive, or logits over which no polynomial reaches it.
    """
    check_model(model)
    check_target(target_error, bounds)
    if degree is not None:
        check_degree(degree)
    measured = survey(model, class_labels, noise, **options)
    start = {name: _start(each, bounds, degree or 2) for name, each in measured.items()}
    shares = estimate_output(model, start, class_labels, noise, **options).shares()
    polynomials, allowed = start, target_error or math.inf
    while True:
        if target_error is not None:
            polynomials = _raised(start, shares, allowed)
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


def check_target(target_error: float | None, bounds: str) -> None:
    """InputError unless the target, if there is one, is positive and finite, and `bounds` known."""
    if target_error is not None and not (math.isfinite(target_error) and target_error > 0):
        raise InputError(f"target_error is {target_error}; expected a number > 0, such as 0.01.")
    if bounds not in get_args(Bounds):
        raise InputError(f"unknown bounds {bounds!r}: {did_you_mean(bounds, get_args(Bounds))}")


def _start(layer: LayerBounds, bounds: Bounds, degree: int) -> LayerPolynomial:
    """The polynomial of this degree on the interval of a layer.

    Raises:
        InputError: logits beyond what a polynomial can follow in float64.
    """
    shift = None
    if bounds == "measured":
        bound = min(layer.logit, layer.centred) * MARGIN
        if layer.centred < layer.logit:
            shift = layer.mean_key
    else:
        bound = layer.by_lengths * MARGIN
    bound = max(bound, 1e-6)
    if layer.guaranteed is not None and layer.guaranteed <= bound:
        bound, shift = layer.guaranteed, None
    if not bound <= MAX_BOUND:
        raise InputError(
            f"not approximable: logits of {layer.name} reach {bound:.3g}, and beyond {MAX_BOUND:g} no polynomial "
            "follows exp in float64. Train with attention='bounded' (bounded by construction), or keep exact attention."
        )
    while size_rule(degree, bound) < SMALLEST_EPSILON:  # a wider interval is as good, and float64 resolves it
        bound *= 1.25
    return LayerPolynomial(degree, bound, shift)


def _raised(
    start: Mapping[str, LayerPolynomial], shares: Mapping[str, float], target: float
) -> dict[str, LayerPolynomial]:
    """The next degree for the layer with the largest error, until their sum is at most the target.

    Raises:
        InputError: a layer would need a polynomial that float64 does not resolve.
    """
    chosen = dict(start)
    errors = dict(shares)
    while sum(errors.values()) > target:
        worst = max(errors, key=errors.__getitem__)
        following = replace(chosen[worst], degree=chosen[worst].degree + 2)
        if following.degree > LARGEST_DEGREE or chosen[worst].epsilon < SMALLEST_EPSILON:
            raise InputError(
                f"not approximable at error {target:g}: {worst} has logits up to {following.bound:.3g} and would need "
                f"a degree above {chosen[worst].degree}; ask for a larger error."
            )
        chosen[worst] = following
        errors[worst] = shares[worst] * following.epsilon / start[worst].epsilon
    return chosen


def _choice(layer: LayerBounds, polynomial: LayerPolynomial, share: float, bounds: Bounds) -> LayerChoice:
    size = rank(layer.head_width, polynomial.degree)
    return LayerChoice(
        name=layer.name,
        tokens=layer.tokens,
        head_width=layer.head_width,
        num_heads=layer.num_heads,
        query_bound=layer.largest_query,
        key_bound=layer.largest_key,
        value_bound=layer.largest_value,
        logit_bound=polynomial.bound,
        guaranteed=layer.guaranteed is not None and polynomial.bound >= layer.guaranteed,
        degree=polynomial.degree,
        rank=size,
        epsilon=polynomial.epsilon,
        certificate=_certificate(layer, polynomial),
        share=share,
        pays=pays(layer.tokens, layer.head_width, polynomial.degree),
    )
