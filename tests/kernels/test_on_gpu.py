"""The kernels on a real GPU against torch in float64: outputs, states, gradients; also what is chosen."""

import pytest
import torch

from flowgression.layers.gated_norm import GATED_NORM, gated_norm
from flowgression.ops import hybrid_attention, lowrank_attention
from flowgression.ops.backends import SWITCH
from flowgression.ops.hybrid_linear.backends import HYBRID
from flowgression.ops.lowrank.backends import LOWRANK
from tests.kernels.interpreter import needs_triton

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
    needs_triton,
]
ALLOWED = 1e-5  # of the largest entry, as by the interpreter


def numbers(*shapes, unit=False):
    generator = torch.Generator().manual_seed(0)
    made = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in shapes]
    return [torch.nn.functional.normalize(x, dim=-1) if unit else x for x in made]


def check(function, inputs, *, default: str):
    """`function(*inputs, backend=...)` in float32 by Triton and in float64 by the default, and their gradients."""
    found = []
    for backend, dtype in (("triton", torch.float32), (default, torch.float64)):
        there = [x.cuda().to(dtype).requires_grad_() for x in inputs]
        outputs = function(*there, backend=backend)
        outputs = outputs if isinstance(outputs, tuple) else (outputs,)
        weights = [torch.linspace(-1, 1, x.numel(), dtype=torch.float64).cuda().view(x.shape) for x in outputs]
        loss = sum((x * w.to(dtype)).sum() for x, w in zip(outputs, weights, strict=True))
        found.append([*outputs, *torch.autograd.grad(loss, there)])
    for actual, wanted in zip(*found, strict=True):
        assert (actual.double() - wanted).abs().max() <= ALLOWED * wanted.abs().max()


@pytest.mark.parametrize(("d", "degree"), [(8, 2), (8, 4), (16, 2), (16, 4)])
@pytest.mark.parametrize(("tokens", "lengths"), [(1, None), (63, None), (4097, None), (4097, (1, 64, 1000, 3032))])
def test_low_rank_attention(d, degree, tokens, lengths):
    def attention(q, k, v, backend):
        return tuple(
            lowrank_attention(q, k, v, degree=degree, bound=1.0, scale=1.0, block_lengths=lengths, backend=backend)
        )

    check(attention, numbers(*[(3, tokens, d)] * 3, unit=True), default="torch")


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 5, 63, 3, 24), (2, 5, 256, 6, 64), (2, 3, 256, 2, 72)])
def test_hybrid_attention(shape):
    def attention(q, k, v, gate, backend):
        return hybrid_attention(q, k * k.shape[-1] ** -0.5, v, -gate.abs() / 16, backend=backend)

    check(attention, numbers(shape, shape, shape, shape[:-1]), default="chunk")


@pytest.mark.parametrize("shape", [(1, 5), (63, 5), (2, 1000, 72), (3, 4096)])
def test_gated_norm(shape):
    check(gated_norm, numbers(shape, shape), default="torch")


@pytest.mark.parametrize("setting", ["auto", "off"])
def test_what_is_chosen(setting, monkeypatch):
    monkeypatch.setenv(SWITCH, setting)
    x, image = torch.ones(1, 2, 8, device="cuda"), torch.ones(1, 1, 2, 1, 8, device="cuda")
    names = [
        LOWRANK.name_for(None, x, x, x, x, degree=2),
        HYBRID.name_for(None, image, image, image, image[..., 0], context="hybrid"),
        GATED_NORM.name_for(None, x, x),
    ]
    assert names == (["triton"] * 3 if setting == "auto" else ["torch", "chunk", "torch"])
