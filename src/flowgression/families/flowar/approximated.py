"""The same FlowAR with polynomials in place of exp in its attentions: one set of weights, two ways to attend."""

import copy
from collections.abc import Mapping, Sequence
from typing import Any

from torch import Tensor

from flowgression.errors import InputError
from flowgression.layers.lowrank_attention import ApproximatedAttention, HeadwiseAttention

Polynomial = tuple[int, float]
Polynomials = Mapping[str, Polynomial | Sequence[Polynomial]]
"""By the name of the layer, such as "encoder_blocks.0.attn": degree and half-width of the interval, of all heads or one
pair for each head.
"""


def put_polynomials(model: Any, polynomials: Polynomials) -> None:
    """Replace, in place, the attention of each layer named by an `ApproximatedAttention` around it.

    Raises:
        InputError: a layer that the model does not have, or one without softmax; a degree or bound out of range.
    """
    for name, chosen in polynomials.items():
        try:
            layer = model.get_submodule(name)
            exact = layer.attention
        except AttributeError as error:
            raise InputError(f"the model has no attention {name!r} that a polynomial could be put into.") from error
        if hasattr(exact, "degree") or isinstance(exact, HeadwiseAttention):
            raise InputError(f"{name} has a polynomial in place of exp already.")
        device = next(layer.parameters()).device
        layer.attention = _around(exact, chosen).to(device).train(exact.training)


def _around(exact: Any, chosen: Any) -> ApproximatedAttention | HeadwiseAttention:
    """`chosen`: a pair, or a sequence of pairs, as configurations have them."""
    if isinstance(chosen[0], Sequence):
        return HeadwiseAttention(exact, [(int(g), float(b)) for g, b in chosen], exact.head_size)
    degree, bound = chosen
    return ApproximatedAttention(exact, int(degree), float(bound), exact.num_heads, exact.head_size)


def check_one_polynomial(model: Any, what: str) -> None:
    """InputError if a layer has polynomials of its heads; `what` reads one for all heads."""
    if any(isinstance(module, HeadwiseAttention) for module in model.modules()):
        raise InputError(
            f"this model has a polynomial for each head, and {what} reads one for all heads of a layer; use the model "
            "it was made from, or approximate it with --degree or --target-error."
        )


def with_polynomials(model: Any, polynomials: Polynomials, shifts: Mapping[str, Tensor]) -> Any:
    """A copy of `model` (a FlowAR) with these polynomials; it saves and loads like any other model.

    Args:
        shifts: by the name of the layer, what is subtracted from its keys, [A, d]; 0 where nothing is given.
    """
    approximated = copy.deepcopy(model)
    put_polynomials(approximated, polynomials)
    for name, shift in shifts.items():
        approximated.get_submodule(name).attention.shift.copy_(shift)
    approximated.register_to_config(approximation={name: _plain(each) for name, each in polynomials.items()})
    return approximated


def _plain(chosen: Any) -> list[Any]:
    """As lists, which JSON keeps."""
    return [list(pair) for pair in chosen] if isinstance(chosen[0], Sequence) else list(chosen)
