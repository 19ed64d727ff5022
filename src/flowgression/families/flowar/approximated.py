"""The same FlowAR with polynomials in place of exp in its attentions: one set of weights, two ways to attend."""

import copy
from collections.abc import Mapping
from typing import Any

from torch import Tensor

from flowgression.errors import InputError
from flowgression.layers.lowrank_attention import ApproximatedAttention

Polynomials = Mapping[str, tuple[int, float]]
"""By the name of the layer, such as "encoder_blocks.0.attn": degree and half-width of the interval."""


def put_polynomials(model: Any, polynomials: Polynomials) -> None:
    """Replace, in place, the attention of each layer named by an `ApproximatedAttention` around it.

    Raises:
        InputError: a layer that the model does not have, or one without softmax; a degree or bound out of range.
    """
    for name, (degree, bound) in polynomials.items():
        try:
            layer = model.get_submodule(name)
            exact = layer.attention
        except AttributeError as error:
            raise InputError(f"the model has no attention {name!r} that a polynomial could be put into.") from error
        if hasattr(exact, "degree"):
            raise InputError(f"{name} has a polynomial in place of exp already.")
        device = next(layer.parameters()).device
        wrapped = ApproximatedAttention(exact, degree, bound, exact.num_heads, exact.head_size)
        layer.attention = wrapped.to(device).train(exact.training)


def with_polynomials(model: Any, polynomials: Polynomials, shifts: Mapping[str, Tensor]) -> Any:
    """A copy of `model` (a FlowAR) with these polynomials; it saves and loads like any other model.

    Args:
        shifts: by the name of the layer, what is subtracted from its keys, [A, d]; 0 where nothing is given.
    """
    approximated = copy.deepcopy(model)
    put_polynomials(approximated, polynomials)
    for name, shift in shifts.items():
        approximated.get_submodule(name).attention.shift.copy_(shift)
    approximated.register_to_config(approximation={name: [g, b] for name, (g, b) in polynomials.items()})
    return approximated
