"""What tests of low-rank attention share: unit queries and keys, so that tau bounds the logits, |values| <= 1; sizes of
the terms of outputs and gradients."""

import torch
from torch import Tensor
from torch.nn.functional import normalize

from flowgression.ops.lowrank.minimax import horner, minimax_exp
from flowgression.ops.lowrank.naive import visible_keys

KINDS = ("random", "clustered", "identical", "opposite")


def unit_inputs(
    kind: str, heads: int, tokens: int, d: int, *, e: int = 3, seed: int = 0, dtype: torch.dtype = torch.float64
) -> tuple[Tensor, Tensor, Tensor]:
    """q and k [heads, tokens, d] of unit length and v [heads, tokens, e]; the hard kinds tie the values to the keys."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    q, k = normal(heads, tokens, d), normal(heads, tokens, d)
    v = 2 * torch.rand(heads, tokens, e, generator=generator, dtype=torch.float64) - 1
    if kind == "clustered":  # a few tight clusters, the queries among them, the values constant on each
        centres, of_token = normal(heads, 4, d), torch.randint(4, (tokens,), generator=generator)
        k = centres[:, of_token] + 0.05 * k
        q = centres[:, of_token.roll(1)] + 0.05 * q
        v = v[:, :4].sign()[:, of_token % v.shape[1]]
    elif kind == "identical":  # rounding errors of equal sign
        k, v = k[:, :1].expand_as(k), torch.full_like(v, 0.9)
    elif kind == "opposite":  # logits at both ends of the interval
        side = torch.where(torch.arange(tokens) % 2 == 0, 1.0, -1.0).double()[:, None]
        k, v = q[:, :1] * side, side.expand(tokens, e).expand_as(v)
    return tuple(x.to(dtype) for x in (normalize(q, dim=-1), normalize(k, dim=-1), v))


def sums_of_absolute_values(inputs, output, gradient, degree, bound, lengths) -> list[Tensor]:
    """What the terms of the output and of the gradients by q, k and v add up to without their signs."""
    q, k, v = (x.detach().abs() for x in inputs)
    coefficients = minimax_exp(degree, bound).coefficients
    seen = 1.0 if lengths is None else visible_keys(lengths, 0, q.device).double()
    signed = horner(coefficients, inputs[0].detach() @ inputs[1].detach().mT) * seen
    normaliser = signed.sum(-1, keepdim=True)
    positive = [abs(c) for c in coefficients]
    kernel = horner(positive, q @ k.mT) * seen
    slope = horner([j * c for j, c in enumerate(positive)][1:], q @ k.mT) * seen
    grad_u = gradient.abs() / normaliser
    grad_d = (grad_u * output.abs()).sum(-1, keepdim=True)
    by_logit = slope * (grad_u @ v.mT + grad_d)
    return [kernel @ v / normaliser, by_logit @ k, by_logit.mT @ q, kernel.mT @ grad_u]
