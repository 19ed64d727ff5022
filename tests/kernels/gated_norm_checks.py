"""RMS norm and gate in Triton against torch's in float64.

A term takes part in d + 12 roundings at most, one of which is that of the sigmoid (2 units); below 300 for the widths
here, and so within 1e-5 of the largest term, see lowrank_checks.py.
"""

import pytest
import torch
from torch.nn.functional import silu

from flowgression.layers.gated_norm import EPS, gated_norm

ALLOWED = 1e-5


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Memory that is read before it is written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@pytest.mark.parametrize("shape", [(1, 1), (63, 5), (2, 3, 72), (130, 64), (3, 200)])
def test_equals_torch(shape):
    generator = torch.Generator().manual_seed(0)
    inputs = [torch.randn(shape, generator=generator, dtype=torch.float64).requires_grad_() for _ in range(2)]
    single = [x.detach().float().requires_grad_() for x in inputs]
    exact, output = gated_norm(*inputs), gated_norm(*single, backend="triton")
    gradient = torch.randn(shape, generator=generator)
    found = torch.autograd.grad(output, single, gradient)
    wanted = torch.autograd.grad(exact, inputs, gradient.double())
    x, gate = (each.detach() for each in inputs)
    # The gradient by x is a difference of two terms, each at most as large as the first can be.
    first = (gradient * silu(gate) * torch.rsqrt(x.square().mean(-1, keepdim=True) + EPS)).abs().max()
    sizes = [exact.abs().max(), 2 * first, wanted[1].abs().max()]
    for actual, true, size in zip([output, *found], [exact, *wanted], sizes, strict=True):
        assert (actual.double() - true).abs().max() <= ALLOWED * size


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_rounded_once(dtype):
    inputs = [x.to(dtype) for x in torch.randn(2, 7, 24, generator=torch.Generator().manual_seed(0))]
    exact = gated_norm(*(x.double() for x in inputs))
    output = gated_norm(*inputs, backend="triton")
    assert output.dtype == dtype
    # The interpreter cuts off what does not fit in bfloat16, where a GPU rounds.
    unit = torch.finfo(dtype).eps / (1 if dtype == torch.bfloat16 else 2)
    assert ((output.double() - exact).abs() <= unit * exact.abs() * (1 + 1e-3) + torch.finfo(dtype).tiny).all()
