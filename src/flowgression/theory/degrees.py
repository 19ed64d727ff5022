"""Which polynomials the attentions of a model get, from what was measured of their logits and values.

A: heads, d: width of a head, N: tokens that a query of the last scale sees, g: degree, B: bound on logits.
"""

from collections.abc import Mapping
from dataclasses import replace
from typing import Literal

import torch

from flowgression.errors import InputError
from flowgression.ops.lowrank import MAX_BOUND, minimax_exp, truncation_factor
from flowgression.ops.lowrank.minimax import size_rule
from flowgression.theory.error.polynomial import LayerPolynomial
from flowgression.theory.survey import LayerBounds

Bounds = Literal["measured", "cauchy-schwarz"]
MARGIN = 1.05  # other noise meets other logits: measured bounds are widened by this
LARGEST_DEGREE = 40
SMALLEST_EPSILON = 1e-13  # what float64 resolves of a polynomial


def largest_certificate(layer: LayerBounds, polynomial: LayerPolynomial) -> float:
    """Bound on the error of one call of a layer, in Euclidean norm over a head; the largest of its heads."""
    factors = torch.tensor([truncation_factor(eps) for eps in polynomial.epsilons.tolist()], dtype=torch.float64)
    return (factors * layer.diameters).max().item()


def equal_heads(layer: LayerBounds, bounds: Bounds, degree: int) -> LayerPolynomial:
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
    if layer.guaranteed is not None and layer.guaranteed <= bound:
        bound, shift = layer.guaranteed, None
    return LayerPolynomial(degree, _interval(layer, bound, degree), shift)


def _interval(layer: LayerBounds, bound: float, degree: int) -> float:
    """The half-width of the polynomial's interval for logits up to `bound`.

    Raises:
        InputError: logits beyond what a polynomial can follow in float64.
    """
    if not bound <= MAX_BOUND:
        raise InputError(
            f"not approximable: logits of {layer.name} reach {bound:.3g}, and beyond {MAX_BOUND:g} no polynomial "
            "follows exp in float64. Train with attention='bounded' (bounded by construction), or keep exact attention."
        )
    bound = max(bound, 1e-6)
    while size_rule(degree, bound) < SMALLEST_EPSILON:  # a wider interval is as good, and float64 resolves it
        bound *= 1.25
    return bound


def by_heads(layer: LayerBounds, bounds: Bounds, certificate: float) -> LayerPolynomial:
    """The polynomial of the smallest degree for each head with which its certificate is at most `certificate`.

    Raises:
        InputError: a head that no polynomial which float64 resolves serves.
    """
    widened = (layer.logits if bounds == "measured" else layer.lengths) * MARGIN
    centred = torch.zeros_like(widened, dtype=torch.bool)
    if bounds == "measured":
        centred = layer.centred_logits < layer.logits
        widened = torch.where(centred, layer.centred_logits * MARGIN, widened)
    if layer.guarantees is not None:
        within = layer.guarantees <= widened
        widened, centred = torch.where(within, layer.guarantees, widened), centred & ~within
    pairs = [
        _smallest(layer, bound, diameter, certificate)
        for bound, diameter in zip(widened.tolist(), layer.diameters.tolist(), strict=True)
    ]
    shift = torch.where(centred[:, None], layer.mean_key, 0.0) if centred.any() else None
    return LayerPolynomial(tuple(degree for degree, _ in pairs), tuple(bound for _, bound in pairs), shift)


def _smallest(layer: LayerBounds, bound: float, diameter: float, certificate: float) -> tuple[int, float]:
    for degree in range(2, LARGEST_DEGREE + 1, 2):
        interval = _interval(layer, bound, degree)
        if truncation_factor(minimax_exp(degree, interval).eps) * diameter <= certificate:
            return degree, interval
        if size_rule(degree, bound) < SMALLEST_EPSILON:  # float64 resolves none that is closer
            break
    raise InputError(
        f"not approximable with a certificate of {certificate:g}: a head of {layer.name} has logits up to {bound:.3g} "
        f"and values {diameter:.3g} apart; ask for a larger one."
    )


def raised(
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
        ((degree, bound),) = chosen[worst].heads
        following = replace(chosen[worst], degree=degree + 2)
        if degree + 2 > LARGEST_DEGREE or chosen[worst].epsilon < SMALLEST_EPSILON:
            raise InputError(
                f"not approximable at error {target:g}: {worst} has logits up to {bound:.3g} and would need "
                f"a degree above {degree}; ask for a larger error."
            )
        chosen[worst] = following
        errors[worst] = shares[worst] * following.epsilon / start[worst].epsilon
    return chosen
