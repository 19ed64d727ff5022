"""RMS norm: its formula, and its derivative in closed form."""

import pytest
import torch

from flowgression.layers.norms import rms_norm


@pytest.mark.parametrize("shape", [(1,), (3, 1), (2, 5, 7)])
def test_derivative(shape: tuple[int, ...]) -> None:
    x = torch.randn(shape, dtype=torch.float64, generator=torch.Generator().manual_seed(0)).requires_grad_()
    assert torch.autograd.gradcheck(lambda x: rms_norm(x, 1e-2), x, check_forward_ad=True)


@pytest.mark.parametrize("eps", [1e-6, 0.5])
def test_with_and_without_gradients_it_is_the_formula(eps: float) -> None:
    x = torch.randn(4, 33, requires_grad=True)
    weight = torch.randn(33, requires_grad=True)
    expected = x * torch.rsqrt(x.square().mean(-1, keepdim=True) + eps) * weight
    found = rms_norm(x, eps, weight)
    torch.testing.assert_close(found, expected)
    for one, other in zip(*(torch.autograd.grad(y.sin().sum(), (x, weight)) for y in (found, expected)), strict=True):
        torch.testing.assert_close(one, other)
    with torch.no_grad():
        torch.testing.assert_close(rms_norm(x, eps, weight), expected)


def test_half_precision_is_lifted() -> None:
    x = (300 * torch.randn(2, 64)).half().requires_grad_()  # squares beyond what float16 holds
    y = rms_norm(x)
    assert y.dtype == torch.float16
    y.sum().backward()
    assert y.isfinite().all()
    assert x.grad.isfinite().all()
