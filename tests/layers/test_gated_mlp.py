"""The hidden width that GPUs compute is a padded one; the numbers are those of the weights."""

import pytest
import torch

from flowgression.layers.gated_mlp import ALIGNMENT, MANY_ROWS, GatedMlp


@pytest.mark.parametrize("width", [6, 24, 72])
def test_padding_changes_neither_numbers_nor_gradients(width: int) -> None:
    """In float64; what is added is zero exactly, but sums of another length may round otherwise."""
    torch.manual_seed(0)
    mlp = GatedMlp(width).double()
    x = torch.randn(3, 5, width, dtype=torch.float64, requires_grad=True)
    more = -mlp.gate.out_features % ALIGNMENT
    weights = [x, *mlp.parameters()]
    plain, padded = mlp(x), mlp._padded(x, more)
    torch.testing.assert_close(padded, plain, rtol=1e-12, atol=1e-13)
    direction = torch.randn_like(plain)
    for a, b in zip(*(torch.autograd.grad(y, weights, direction) for y in (padded, plain)), strict=True):
        assert a.shape == b.shape
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-13)


def test_without_gradients_it_is_the_formula() -> None:
    """The product is made in place then, in memory of its own."""
    torch.manual_seed(0)
    mlp, x = GatedMlp(24), torch.randn(2, 5, 24)
    given, expected = x.clone(), mlp.out(torch.nn.functional.gelu(mlp.gate(x)) * mlp.value(x))
    with torch.no_grad():
        assert torch.equal(mlp(x), expected)
    assert torch.equal(mlp(x), expected)
    assert torch.equal(x, given)


@pytest.mark.gpu
def test_a_gpu_pads() -> None:
    mlp, x = GatedMlp(24).cuda(), torch.randn(MANY_ROWS, 24, device="cuda")
    expected = mlp.cpu()(x.cpu())
    torch.testing.assert_close(mlp.cuda()(x).cpu(), expected, rtol=1e-4, atol=1e-5)


def test_who_looks_at_a_layer_sees_its_own_result() -> None:
    mlp = GatedMlp(24)
    assert mlp._is_plain()
    mlp.out.register_forward_hook(lambda *_: None)
    assert not mlp._is_plain()
