"""A first-order estimate of the difference of two images: errors of single attention calls, carried by derivatives.

The exact model is run in forward-mode differentiation. At every attention the tangent receives, besides its own
derivative, what the polynomial would change there; the tangent of the image is then the difference to first order. An
estimate and no bound: products of errors are left out.

B: images, A: heads, T: tokens, d: width of a head.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import torch
import torch.autograd.forward_ad as forward_ad
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel

from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.sampling import sample
from flowgression.theory.error.polynomial import LayerPolynomial, softmax_attend
from flowgression.theory.trajectory import compared

_ROWS = 1024  # queries whose logits are made at once


@dataclass
class OutputEstimate:
    """The first-order difference of the last map.

    Attributes:
        sample: [B, C, H, H], of the exact model.
        by_layer: per layer the difference [B, C, H, H] that its polynomial makes; empty if all were taken together.
        difference: the sum of them, [B, C, H, H].
    """

    sample: Tensor
    by_layer: dict[str, Tensor]
    difference: Tensor

    def shares(self) -> dict[str, float]:
        """Largest |difference| that each layer makes alone."""
        return {name: each.abs().max().item() for name, each in self.by_layer.items()}


def estimate_output(
    model: FlowAR,
    polynomials: Mapping[str, LayerPolynomial],
    class_labels: Tensor,
    noise: Sequence[Tensor],
    *,
    together: bool = False,
    **options: Any,
) -> OutputEstimate:
    """Estimate the error that `polynomials` make in the images of `model`.

    Args:
        model: exact or bounded attention, float32 or float64.
        polynomials: by the name of the layer; other layers stay exact.
        together: one differentiated run for all layers, instead of one for each.
        options: of `flowgression.families.flowar.sampling.sample`, such as num_inference_steps and guidance_scale.
    """
    by_layer: dict[str, Tensor] = {}
    groups = [polynomials] if together else [{name: polynomial} for name, polynomial in polynomials.items()]
    drawn, difference = torch.empty(0), torch.zeros(())
    for group in groups:
        with forward_ad.dual_level(), _disturbed(model, group), sdpa_kernel(SDPBackend.MATH):
            output = sample(model, class_labels, noise=noise, use_cache=False, **options).sample
            drawn, tangent = forward_ad.unpack_dual(output)
            tangent = torch.zeros_like(drawn) if tangent is None else tangent.clone()
        difference = difference + tangent
        if not together:
            by_layer |= dict.fromkeys(group, tangent)
    return OutputEstimate(drawn, by_layer, difference)


@contextmanager
def _disturbed(model: FlowAR, polynomials: Mapping[str, LayerPolynomial]) -> Iterator[None]:
    """Within, every attention named adds its polynomial's error to its tangent."""
    handles = [
        model.get_submodule(f"{name}.attention").register_forward_hook(_adding(polynomial))
        for name, polynomial in polynomials.items()
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


def _adding(polynomial: LayerPolynomial) -> Callable[..., Any]:
    def hook(module: Any, inputs: tuple[Any, ...], result: tuple[Tensor, Any]) -> tuple[Tensor, Any]:
        plain_q, plain_k, plain_v = (forward_ad.unpack_dual(x).primal for x in inputs[:3])
        errors = []
        for factors in compared(module, plain_q, plain_k, plain_v, inputs[3]):
            q, k, v = (x.double() for x in factors)  # the difference of two nearly equal results
            k = polynomial.shifted(k)
            rows = q.split(_ROWS, dim=2)
            errors += [polynomial.attend(some, k, v) - softmax_attend(some, k, v) for some in rows]
        output, tangent = forward_ad.unpack_dual(result[0])
        error = torch.cat(errors, dim=2).to(output.dtype)
        return forward_ad.make_dual(output, error if tangent is None else tangent + error), result[1]

    return hook
