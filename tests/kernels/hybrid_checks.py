"""Hybrid attention in Triton against its definition in float64: outputs, states and gradients.

The tolerance: a term takes part in m <= 2 N + S + d + 8 roundings (sums over tokens, images and a head's width, and
the exponentials), which is below 300 here; 6 sqrt(m) u = 6.2e-6 is exceeded with probability below 1e-7 (Higham and
Mary 2019), relative to the terms' absolute values, all of which are at most those of the largest entry times 4 here.
"""

import pytest
import torch

from flowgression import InputError
from flowgression.ops import hybrid_attention, hybrid_attention_naive

ALLOWED = 1e-5


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Memory that is read before it is written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def made(shape, *, state: bool, dtype=torch.float64):
    """q, k, v of unit entries, gates below 0 and, if asked for, a state."""
    batch, _, _, heads, d = shape
    generator = torch.Generator().manual_seed(d)
    q, k, v = torch.randn(3, *shape, generator=generator, dtype=dtype)
    gate = -torch.rand(*shape[:-1], generator=generator, dtype=dtype) / 16
    start = torch.randn(batch, heads, d, d, generator=generator, dtype=dtype)
    found = [q, k * d**-0.5, v, gate] + [start] * state
    return [x.requires_grad_() for x in found]


def between_nans(x):
    """The same numbers in the middle of memory full of NaN."""
    size = max(x.numel(), 4096)
    memory = torch.full((3 * size,), torch.nan)
    memory[size : size + x.numel()] = x.detach().float().flatten()
    return memory[size : size + x.numel()].view(x.shape).requires_grad_()


def near(actual, wanted):
    return (actual.double() - wanted).abs().max() <= ALLOWED * wanted.abs().max()


def check(shape, *, state: bool, final: bool):
    inputs = made(shape, state=state)
    single = [between_nans(x) for x in inputs]
    exact, left = hybrid_attention_naive(*inputs)
    output, state_left = hybrid_attention(*single, backend="triton")
    assert near(output, exact)
    assert near(state_left, left)
    weights = [torch.randn(x.shape, generator=torch.Generator().manual_seed(1)).double() for x in (exact, left)]
    loss = (exact * weights[0]).sum() + final * (left * weights[1]).sum()
    loss_single = (output * weights[0].float()).sum() + final * (state_left * weights[1].float()).sum()
    found = torch.autograd.grad(loss_single, single)
    for actual, wanted in zip(found, torch.autograd.grad(loss, inputs), strict=True):
        assert near(actual, wanted)


@pytest.mark.parametrize("shape", [(1, 1, 1, 1, 1), (2, 3, 7, 2, 5), (1, 2, 33, 1, 16)])
@pytest.mark.parametrize(("state", "final"), [(False, False), (True, True)])
def test_equals_the_definition(shape, state, final):
    check(shape, state=state, final=final)


@pytest.mark.slow
@pytest.mark.parametrize(
    "shape", [(1, 3, 64, 2, 64), (1, 2, 63, 1, 16), (1, 2, 33, 1, 72), (1, 2, 40, 1, 128), (1, 9, 16, 3, 24)]
)
def test_widths_of_models(shape):
    check(shape, state=True, final=True)


def test_no_state_and_no_gradient():
    inputs = [x.detach().float() for x in made((1, 2, 5, 2, 4), state=False)]
    output, state = hybrid_attention(*inputs, backend="triton", return_state=False)
    assert state is None
    assert near(output, hybrid_attention_naive(*(x.double() for x in inputs))[0])


def test_half_precision_keeps_the_state_in_float32():
    # float16, as the interpreter multiplies the bits of bfloat16 numbers as if they were integers.
    inputs = [x.detach().half().float() for x in made((1, 3, 9, 2, 16), state=False)]
    single = [x.half() for x in inputs[:3]] + [inputs[3]]
    output, state = hybrid_attention(*single, backend="triton")
    exact, left = hybrid_attention_naive(*(x.double() for x in inputs))
    assert (output.dtype, state.dtype) == (torch.float16, torch.float32)
    # Rounded to 11 bits are queries, weights, the state that is read, both outputs and their sum: 6 units of 2^-11 each
    # relative to absolute values, which add up to at most d = 16 products of the largest.
    size = left.abs().max() * single[0].abs().max() * 16
    assert (output.double() - exact).abs().max() <= 6 * 2.0**-11 * size
    assert near(state, left)


@pytest.mark.parametrize("context", ["full", "linear", "none"])
def test_other_contexts_are_refused(context):
    inputs = [x.detach().float() for x in made((1, 1, 2, 1, 2), state=False)]
    with pytest.raises(InputError, match="made for the context 'hybrid'"):
        hybrid_attention(*inputs, context=context, backend="triton")
