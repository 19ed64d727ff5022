"""Low-rank attention in Triton against the dense polynomial in float64: outputs, states, gradients, certificate.

Tolerances. A term of an output or gradient takes part in m <= 300 roundings, whatever N (docs/theory-reference.md has
those of the output); they add up to more than 6 sqrt(m) u = 6.2e-6 of the sum of the terms' absolute values with
probability below 1e-7 (Higham and Mary 2019, "A New Approach to Probabilistic Rounding Error Analysis"). 1e-5 of that
sum is allowed, entry by entry.
"""

import pytest
import torch
from torch import Tensor

from flowgression import InputError
from flowgression.flops import flop_counter
from flowgression.ops import error_certificate, lowrank_attention, rank
from flowgression.ops.lowrank import naive_polynomial_attention
from flowgression.ops.lowrank.minimax import minimax_exp
from tests.ops.lowrank.cases import KINDS, sums_of_absolute_values, unit_inputs

ALLOWED = 1e-5
BOUND = 1.0


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Memory that is read before it is written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def between_nans(x: Tensor) -> Tensor:
    """The same numbers in the middle of memory full of NaN."""
    memory = torch.full((3 * max(x.numel(), 1024),), torch.nan)
    memory[max(x.numel(), 1024) :][: x.numel()] = x.float().flatten()
    return memory[max(x.numel(), 1024) :][: x.numel()].view(x.shape).requires_grad_()


def check(d: int, degree: int, tokens: int, lengths: tuple[int, ...] | None, *, heads: int = 1, e: int | None = None):
    inputs = [x.requires_grad_() for x in unit_inputs("random", heads, tokens, d, e=e or d)]
    options = {"degree": degree, "bound": BOUND, "scale": 1.0, "block_lengths": lengths}
    exact = naive_polynomial_attention(*inputs, **options).output
    wide = lowrank_attention(*inputs, **options)
    single = [between_nans(x.detach()) for x in inputs]
    output, state = lowrank_attention(*single, **options, backend="triton")
    gradient = torch.randn(exact.shape, generator=torch.Generator().manual_seed(1), dtype=torch.float64)
    by_state = torch.zeros_like(wide.state)
    gradients = torch.autograd.grad([output, state], single, [gradient.float(), by_state.float()])
    wanted = torch.autograd.grad(exact, inputs, gradient)
    allowed = sums_of_absolute_values(inputs, exact.detach(), gradient, degree, BOUND, lengths)
    for actual, true, size in zip([output, *gradients], [exact, *wanted], allowed, strict=True):
        assert ((actual.double() - true).abs() <= ALLOWED * size).all()
    absolute = lowrank_attention(*(x.detach().abs() for x in inputs), **options).state
    assert ((state.double() - wide.state).abs() <= ALLOWED * absolute).all()


@pytest.mark.parametrize(("tokens", "lengths"), [(1, None), (63, None), (63, (1, 62))])
def test_equals_the_dense_polynomial(tokens, lengths):
    check(8, 2, tokens, lengths)


@pytest.mark.parametrize(("d", "e", "degree"), [(1, 1, 2), (2, 3, 4), (2, 20, 2)])
def test_awkward_widths(d, e, degree):
    check(d, degree, 3, (1, 2), heads=1 if e > 5 else 2, e=e)


@pytest.mark.slow
@pytest.mark.parametrize(("d", "degree"), [(8, 2), (16, 2), (8, 4)])
@pytest.mark.parametrize(("tokens", "lengths"), [(1, None), (63, (1, 4, 58)), (63, None)])
def test_high_ranks(d, degree, tokens, lengths):
    check(d, degree, tokens, lengths)


@pytest.mark.slow
@pytest.mark.parametrize("tokens", [1, 63])
def test_the_highest_rank(tokens):
    """4,845 monomials; the interpreter takes minutes, so there is one scale and values are narrow."""
    check(16, 4, tokens, None, e=3)


@pytest.mark.slow
@pytest.mark.parametrize("lengths", [None, (1, 64, 1000, 3032)])
def test_many_tokens(lengths):
    check(8, 2, 4097, lengths)


def test_several_calls_equal_one():
    lengths = (1, 2)
    inputs = [x.float().requires_grad_() for x in unit_inputs("random", 2, sum(lengths), 3)]
    options = {"degree": 2, "bound": BOUND, "scale": 1.0, "backend": "triton"}
    whole = lowrank_attention(*inputs, **options, block_lengths=lengths)
    state, outputs = None, []
    for part in zip(*(x.split(lengths, -2) for x in inputs), strict=True):
        output, state = lowrank_attention(*part, **options, state=state)
        outputs.append(output)
    # The same terms in the same order but for the additions of calls, each of which rounds once.
    torch.testing.assert_close(torch.cat(outputs, -2), whole.output, rtol=0, atol=ALLOWED)
    torch.testing.assert_close(state, whole.state, rtol=ALLOWED, atol=ALLOWED)
    losses = (sum(o.square().sum() for o in outputs) + state.sum(), whole.output.square().sum() + whole.state.sum())
    for actual, wanted in zip(*(torch.autograd.grad(loss, inputs) for loss in losses), strict=True):
        torch.testing.assert_close(actual, wanted, rtol=0, atol=10 * ALLOWED * wanted.abs().amax().item())


def test_gradient_by_the_state_it_starts_with():
    q, k, v = (x.float() for x in unit_inputs("random", 2, 5, 4))
    start = torch.rand(2, rank(4, 2), 4, generator=torch.Generator().manual_seed(0)).requires_grad_()
    found = []
    for backend in ("triton", "torch"):
        output, state = lowrank_attention(
            q, k, v, degree=2, bound=BOUND, state=start, block_lengths=(2, 3), backend=backend
        )
        found.append(torch.autograd.grad(output.square().sum() + state.square().sum(), start)[0])
    torch.testing.assert_close(*found, rtol=ALLOWED, atol=ALLOWED)


def test_later_scales_have_no_influence():
    lengths = (2, 3, 4)
    inputs = [x.float() for x in unit_inputs("random", 1, sum(lengths), 4)]
    options = {"degree": 2, "bound": BOUND, "scale": 1.0, "block_lengths": lengths, "backend": "triton"}
    before = lowrank_attention(*inputs, **options).output[:, :5]
    for x in inputs:
        x[:, 5:] = torch.nan  # whatever is multiplied with these would show
    assert torch.equal(lowrank_attention(*inputs, **options).output[:, :5], before)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("tokens", [66, pytest.param(4096, marks=pytest.mark.slow)])
def test_the_certificate_holds(kind, tokens):
    q, k, v = unit_inputs(kind, 1, tokens, 4, dtype=torch.float32)
    certificate = error_certificate(v, degree=2, bound=BOUND, head_dim=4)
    output = lowrank_attention(q[:, :16], k, v, degree=2, bound=BOUND, scale=1.0, backend="triton").output
    exact = naive_polynomial_attention(q[:, :16].double(), k.double(), v.double(), degree=2, bound=BOUND, scale=1.0)
    assert ((output.double() - exact.output).abs() <= certificate.rounding[:, None]).all()


def test_blocks_keep_long_sums_exact():
    """Identical terms: one long sum in float32 would be off by more than blocks can be."""
    tokens, value = 2048, 0.1
    k = torch.zeros(1, tokens, 2)
    v = torch.full((1, tokens, 1), value)
    options = {"degree": 2, "bound": BOUND, "scale": 1.0, "backend": "triton"}
    state = lowrank_attention(k[:, :1], k, v, **options).state[0, 0, 0].item()
    true = tokens * v[0, 0, 0].item() * minimax_exp(2, BOUND).coefficients[0]
    allowed = 66 * 2.0**-24 * abs(true)  # 64 in a block, 2 at the end
    long_sum = 0.0
    for x in v[0, :, 0]:
        long_sum = x + long_sum
    assert abs(long_sum.item() - tokens * v[0, 0, 0].item()) > 66 * 2.0**-24 * tokens * value
    assert abs(state - true) <= allowed


@pytest.mark.parametrize(
    ("shape", "degree", "message"),
    [((4, 2, 2), 10, "degrees up to 8"), ((4, 2, 49), 2, "head widths up to"), ((4, 255, 2), 2, "head widths up to")],
)
def test_what_the_kernels_do_not_take(shape, degree, message):
    tokens, d, e = shape
    q, v = torch.zeros(1, tokens, d), torch.zeros(1, tokens, e)
    with pytest.raises(InputError, match=message):
        lowrank_attention(q, q, v, degree=degree, bound=BOUND, backend="triton")
    with pytest.raises(InputError, match=r"it takes torch\.float32"):
        lowrank_attention(q[..., :2].double(), q[..., :2], v[..., :2], degree=2, bound=BOUND, backend="triton")


def test_compiled_graphs_call_the_kernels():
    inputs = [x.float() for x in unit_inputs("random", 1, 5, 3)]

    @torch.compile(backend="aot_eager", fullgraph=True)
    def attention(*inputs):
        return lowrank_attention(*inputs, degree=2, bound=BOUND, backend="triton").output

    assert torch.equal(attention(*inputs), lowrank_attention(*inputs, degree=2, bound=BOUND, backend="triton").output)


def test_counters_see_the_operations_of_torch():
    inputs = [x.float() for x in unit_inputs("random", 1, 5, 3)]
    with flop_counter() as counter:
        lowrank_attention(*inputs, degree=2, bound=BOUND)
        with pytest.raises(InputError, match="operations are counted"):
            lowrank_attention(*inputs, degree=2, bound=BOUND, backend="triton")
    assert counter.get_total_flops() > 0
