"""The monomials, their weights and their derivatives against their definitions."""

import itertools
import math

import pytest
import torch

from flowgression.ops.lowrank.features import derivatives, exponents, monomials, multinomials, rank

SIZES = [(1, 2), (2, 1), (2, 6), (3, 4), (5, 3), (8, 2), (8, 4)]


@pytest.mark.parametrize(("d", "degree"), SIZES)
def test_every_monomial_once_in_graded_order(d, degree):
    table = exponents(d, degree)
    wanted = {a for a in itertools.product(range(degree + 1), repeat=d) if sum(a) <= degree} if d < 8 else None
    assert table.shape == (rank(d, degree), d)
    assert len({tuple(a) for a in table.tolist()}) == math.comb(d + degree, degree)
    assert wanted is None or {tuple(a) for a in table.tolist()} == wanted
    assert (table.sum(1).diff() >= 0).all()


@pytest.mark.parametrize(("d", "degree"), SIZES)
@pytest.mark.parametrize("trailing", [(1,), (7,), (2, 5)])
def test_values(d, degree, trailing):
    x = torch.randn(d, *trailing, dtype=torch.float64)
    a = exponents(d, degree).reshape(-1, d, *(1 for _ in trailing))
    torch.testing.assert_close(monomials(x, degree), (x**a).prod(1), rtol=1e-12, atol=0)


def test_writes_into_the_buffer_given():
    x = torch.randn(3, 5)
    buffer = torch.full((rank(3, 4), 5), torch.nan)
    assert monomials(x, 4, buffer) is buffer
    assert torch.equal(buffer, monomials(x, 4))


@pytest.mark.parametrize(("d", "degree"), SIZES)
def test_multinomial_theorem(d, degree):
    x, y = torch.randn(2, d, 1, dtype=torch.float64)
    products = monomials(x, degree)[:, 0] * monomials(y, degree)[:, 0] * multinomials(d, degree)
    of_degree = exponents(d, degree).sum(1)
    powers = [products[of_degree == j].sum() for j in range(degree + 1)]
    logit = (x * y).sum()
    torch.testing.assert_close(torch.stack(powers), torch.stack([logit**j for j in range(degree + 1)]))


@pytest.mark.parametrize(("d", "degree"), SIZES)
def test_derivatives_against_autograd(d, degree):
    x = torch.randn(d, 1, dtype=torch.float64, requires_grad=True)
    s = torch.randn(rank(d, degree), dtype=torch.float64)
    index, factor = derivatives(d, degree)
    # The slow form keeps autograd's graph: a product of powers.
    value = (s * (x[:, 0] ** exponents(d, degree)).prod(1)).sum()
    (expected,) = torch.autograd.grad(value, x)
    lower = monomials(x.detach(), degree)[: rank(d, degree - 1), 0]
    torch.testing.assert_close((lower[:, None] * factor * s[index]).sum(0), expected[:, 0])
