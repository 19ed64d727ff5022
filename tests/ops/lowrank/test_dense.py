"""The dense form in few passes against the obvious one: values, gradients, a mask; no argument is changed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgression.ops import error_certificate, minimax_exp
from flowgression.ops.lowrank import naive_polynomial_attention
from flowgression.ops.lowrank.dense import completed_square, dense_attention
from flowgression.ops.lowrank.minimax import horner
from flowgression.ops.lowrank.naive import visible_keys
from tests.ops.lowrank.cases import sums_of_absolute_values, unit_inputs


@given(bound=st.floats(6.3e-5, 12.0))
def test_the_completed_square_is_the_polynomial(bound: float) -> None:
    coefficients = minimax_exp(2, bound).coefficients
    shift, rest = completed_square(coefficients)
    x = torch.linspace(-2 * bound, 2 * bound, 101, dtype=torch.float64)
    size = horner([abs(c) for c in coefficients], x.abs())
    error = coefficients[2] * ((x + shift).square() + rest) - horner(coefficients, x)
    assert (error.abs() <= 16 * 2.0**-53 * size).all()
    assert rest > 0  # so no sum of absolute values grows (docs/theory-reference.md, lemma 4)


@pytest.mark.parametrize("gradients", [True, False])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("tokens", [14, 130])
@pytest.mark.parametrize("degree", [2, 4])
def test_dense_form_is_the_naive_one(degree: int, tokens: int, masked: bool, gradients: bool) -> None:
    lengths = (1, 4, tokens - 5) if masked else None
    inputs = [x.requires_grad_(gradients) for x in unit_inputs("random", 3, tokens, 4)]
    kept = [x.detach().clone() for x in inputs]
    q, k, v = inputs
    seen = None if lengths is None else visible_keys(lengths, 0, q.device)
    expected = naive_polynomial_attention(q, k, v, degree=degree, bound=2.0, scale=1.0, block_lengths=lengths).output
    with torch.set_grad_enabled(gradients):
        output = dense_attention(q, k, v, minimax_exp(degree, 2.0).coefficients, seen)
    # Each is off by the rounding of its certificate at most.
    certificate = error_certificate(v.detach(), degree=degree, bound=2.0, head_dim=4).rounding
    assert ((output - expected).abs() <= 2 * certificate[:, None]).all()
    assert all(map(torch.equal, inputs, kept))
    if not gradients:
        return
    # A term takes part in fewer than 500 roundings: twice those of U / D, and sums over at most 130 tokens.
    factor = torch.randn_like(expected)
    sizes = sums_of_absolute_values(inputs, expected.detach(), factor, degree, 2.0, lengths)[1:]
    both = [torch.autograd.grad((x * factor).sum(), inputs) for x in (output, expected)]
    for actual, wanted, size in zip(*both, sizes, strict=True):
        assert ((actual - wanted).abs() <= 2 * 500 * 2.0**-53 * size).all()
