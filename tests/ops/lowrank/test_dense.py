"""The dense form in few passes against the obvious one: values, gradients, a mask; no argument is changed."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from flowgression.ops.lowrank import minimax_exp, naive_polynomial_attention
from flowgression.ops.lowrank.dense import completed_square, dense_attention
from flowgression.ops.lowrank.minimax import horner
from flowgression.ops.lowrank.naive import visible_keys
from tests.ops.lowrank.cases import unit_inputs


@given(bound=st.floats(6.3e-5, 12.0))
def test_the_completed_square_is_the_polynomial(bound: float) -> None:
    coefficients = minimax_exp(2, bound).coefficients
    shift, rest = completed_square(coefficients)
    x = torch.linspace(-2 * bound, 2 * bound, 101, dtype=torch.float64)
    size = horner([abs(c) for c in coefficients], x.abs())
    error = coefficients[2] * ((x + shift).square() + rest) - horner(coefficients, x)
    assert (error.abs() <= 16 * 2.0**-53 * size).all()
    assert rest > 0  # so no sum of absolute values grows (docs/theory.md, lemma 4)


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
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-13)
    assert all(map(torch.equal, inputs, kept))
    if gradients:
        factor = torch.randn_like(expected)
        both = [torch.autograd.grad((x * factor).sum(), inputs) for x in (output, expected)]
        for actual, wanted in zip(*both, strict=True):
            torch.testing.assert_close(actual, wanted, rtol=0, atol=1e-12)
