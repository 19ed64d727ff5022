"""Low-rank attention against the dense polynomial: outputs, states, gradients, causality, precision, memory, errors."""

import math
import subprocess
import sys

import pytest
import torch

from flowgression import InputError
from flowgression.ops import lowrank_attention, minimax_exp, rank
from flowgression.ops.lowrank import folding, naive_polynomial_attention
from flowgression.ops.lowrank.features import monomials
from tests.ops.lowrank.cases import unit_inputs

SCALES = (1, 4, 9, 16)


@pytest.fixture
def poisoned_memory():
    """Memory that is read before it is written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


def random_inputs(heads, tokens, d=4, e=3, *, keys=None, dtype=torch.float64, requires_grad=False):
    torch.manual_seed(tokens * 100 + d)
    shapes = [(*heads, tokens, d), (*heads, keys or tokens, d), (*heads, keys or tokens, e)]
    return [torch.randn(s, dtype=dtype, requires_grad=requires_grad) for s in shapes]


def assert_near(actual, expected, tolerance):
    torch.testing.assert_close(actual, expected, rtol=tolerance, atol=tolerance)


@pytest.mark.parametrize("degree", [2, 4, 6])
@pytest.mark.parametrize("lengths", [None, SCALES, (30,), (1,) * 30])
def test_equals_the_dense_polynomial(degree, lengths, poisoned_memory):
    inputs = random_inputs((2, 3), 30, requires_grad=True)
    options = {"degree": degree, "bound": 2.0, "block_lengths": lengths}
    output = lowrank_attention(*inputs, **options).output
    expected = naive_polynomial_attention(*inputs, **options).output
    assert_near(output, expected, 1e-12)
    weight = torch.randn_like(output)
    gradients = torch.autograd.grad(output, inputs, weight)
    for actual, wanted in zip(gradients, torch.autograd.grad(expected, inputs, weight), strict=True):
        assert_near(actual, wanted, 1e-12)


@pytest.mark.parametrize("tokens", [1, 63, 127])
@pytest.mark.parametrize("heads", [(), (1,), (5,)])
@pytest.mark.parametrize(("d", "e"), [(1, 1), (8, 5)])
def test_awkward_sizes(tokens, heads, d, e, poisoned_memory):
    inputs = random_inputs(heads, tokens, d, e)
    expected = naive_polynomial_attention(*inputs, degree=4, bound=1.0).output
    assert_near(lowrank_attention(*inputs, degree=4, bound=1.0).output, expected, 1e-12)


@pytest.mark.parametrize("numbers", [1, 64 * rank(4, 4), 64 * 3 * rank(4, 4)])
def test_chunks_of_any_size_agree(monkeypatch, numbers, poisoned_memory):
    # 150 tokens: the chunks of at least 64 cut through the blocks, and the groups through the heads.
    inputs = random_inputs((4,), 150, requires_grad=True)
    options = {"degree": 4, "bound": 1.0, "block_lengths": (1, 60, 10, 79)}
    expected = naive_polynomial_attention(*inputs, **options).output
    monkeypatch.setattr(folding, "_NUMBERS_ON_CPU", numbers)
    output = lowrank_attention(*inputs, **options).output
    assert_near(output, expected, 1e-12)
    weight = torch.randn_like(output)
    gradients = torch.autograd.grad(output, inputs, weight)
    for actual, wanted in zip(gradients, torch.autograd.grad(expected, inputs, weight), strict=True):
        assert_near(actual, wanted, 1e-11)


def test_queries_and_keys_of_different_number():
    inputs = random_inputs((2,), 5, keys=17)
    expected = naive_polynomial_attention(*inputs, degree=2, bound=1.0, scale=0.3).output
    assert_near(lowrank_attention(*inputs, degree=2, bound=1.0, scale=0.3).output, expected, 1e-13)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_block_causal_equals_masked_polynomial_attention(dtype):
    options = {"degree": 4, "bound": 1.0, "scale": 1.0, "block_lengths": SCALES}
    inputs = unit_inputs("clustered", 16, sum(SCALES), 8)
    expected = naive_polynomial_attention(*inputs, **options).output
    output = lowrank_attention(*(x.to(dtype) for x in inputs), **options).output
    assert (output.double() - expected).abs().max() <= (1e-12 if dtype == torch.float64 else 5e-6)


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_later_scales_have_no_influence(dtype):
    inputs = [x.to(dtype).requires_grad_() for x in unit_inputs("random", 4, sum(SCALES), 8)]
    options = {"degree": 4, "bound": 1.0, "scale": 1.0, "block_lengths": SCALES}
    output, seen = lowrank_attention(*inputs, **options).output, sum(SCALES[:2])
    gradients = torch.autograd.grad(output[:, :seen].sum(), inputs)
    assert all((g[:, seen:] == 0).all() for g in gradients)
    assert all((g[:, :seen] != 0).any() for g in gradients)
    for x in inputs:
        x.data[:, seen:] = torch.nan  # whatever is multiplied with these would show
    assert torch.equal(lowrank_attention(*inputs, **options).output[:, :seen], output[:, :seen])


def test_recurrent_form_equals_block_causal_form():
    inputs = random_inputs((2, 3), sum(SCALES), requires_grad=True)
    whole = lowrank_attention(*inputs, degree=4, bound=1.0, block_lengths=SCALES)
    state, outputs = None, []
    for q, k, v in zip(*(x.split(SCALES, -2) for x in inputs), strict=True):
        part = lowrank_attention(q, k, v, degree=4, bound=1.0, state=state)
        state = part.state
        outputs.append(part.output)
        assert state.shape == (2, 3, rank(4, 4), 4)
    assert_near(torch.cat(outputs, -2), whole.output, 1e-12)
    assert_near(state, whole.state, 1e-12)
    # The gradient through the carried state is that of the whole, also where the last state itself is used.
    losses = (sum(o.square().sum() for o in outputs) + state.sum(), whole.output.square().sum() + whole.state.sum())
    for actual, wanted in zip(*(torch.autograd.grad(loss, inputs) for loss in losses), strict=True):
        assert_near(actual, wanted, 1e-10)


def test_state_is_what_its_formula_says():
    # With one channel e = 1 and degree 2: S_0 = c_0 [sum v, N], from the monomial 1.
    q, k, v = random_inputs((), 7, d=2, e=1)
    state = lowrank_attention(q, k, v, degree=2, bound=1.0).state
    c = minimax_exp(2, 1.0).coefficients
    assert_near(state[0], c[0] * torch.tensor([v.sum(), 7.0], dtype=torch.float64), 1e-12)
    assert_near(state[1], c[1] * torch.stack([k[:, 0] @ v[:, 0], k[:, 0].sum()]), 1e-12)
    assert_near(state[4], 2 * c[2] * torch.stack([(k[:, 0] * k[:, 1]) @ v[:, 0], k[:, 0] @ k[:, 1]]), 1e-12)


def test_gradcheck():
    q, k, v = random_inputs((2,), 5, d=3, e=2, requires_grad=True)
    state = lowrank_attention(*(x.detach() for x in (q, k, v)), degree=4, bound=1.0).state.requires_grad_()

    def attention(q, k, v, state):
        return tuple(lowrank_attention(q, k, v, degree=4, bound=1.0, block_lengths=(2, 3), state=state))

    assert torch.autograd.gradcheck(attention, (q, k, v, state))


@pytest.mark.parametrize("kind", ["random", "clustered"])
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 4.0])
def test_float32_against_float64(kind, tau):
    # Rows whose logits all lie near -B lose more, which the rounding term of the certificate covers.
    inputs = unit_inputs(kind, 8, 1024, 8, dtype=torch.float32)
    single, double = (
        lowrank_attention(*(x.to(dtype) for x in inputs), degree=4, bound=tau, scale=tau).output.double()
        for dtype in (torch.float32, torch.float64)
    )
    assert (single - double).abs().max() <= 2e-5


@pytest.mark.parametrize("degree", [2, 4])
@pytest.mark.parametrize("bound", [0.5, 1.0, 2.0, 4.0])
@pytest.mark.parametrize("sign", [-1, 1])
def test_normaliser_is_positive_far_outside_the_bound(degree, bound, sign):
    # One key, so that D is the polynomial of a single logit, from 0 to 8 B; read from the state, as no output shows it.
    k = torch.nn.functional.normalize(torch.randn(64, 1, 8, generator=torch.Generator().manual_seed(0)), dim=-1)
    q = sign * bound * torch.linspace(0, 8, 161)[:, None] * k
    state = lowrank_attention(q, k, torch.ones_like(k), degree=degree, bound=bound, scale=1.0).state
    normaliser = (monomials(q.permute(2, 0, 1), degree) * state[None, :, :, -1].permute(2, 1, 0)).sum(0)
    assert (normaliser > 0).all()
    exact = minimax_exp(degree, bound).coefficients
    logits = sign * bound * torch.linspace(0, 8, 161, dtype=torch.float64)
    wanted = sum(c * logits**j for j, c in enumerate(exact))
    assert_near(normaliser.double(), wanted.expand(64, -1), 5e-3)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float32])
def test_autocast_and_half_precision_compute_in_float32(dtype):
    inputs = [x.requires_grad_() for x in unit_inputs("random", 4, 40, 8, dtype=dtype)]
    single = [x.detach().float().requires_grad_() for x in inputs]
    options = {"degree": 4, "bound": 1.0, "scale": 1.0, "block_lengths": (10, 30)}
    expected = lowrank_attention(*single, **options)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        output, state = lowrank_attention(*inputs, **options)
        gradients = torch.autograd.grad(output.float().sum(), inputs)
    assert (output.dtype, state.dtype) == (dtype, torch.float32)
    assert torch.equal(output, expected.output.to(dtype))
    assert torch.equal(state, expected.state)
    if dtype == torch.float32:
        assert all(map(torch.equal, gradients, torch.autograd.grad(expected.output.sum(), single)))


def test_works_under_inference_mode_before_training():
    # Tables made inside inference mode are cached and must serve a later training step.
    inputs = random_inputs((1,), 6, d=7, e=2)
    with torch.inference_mode():
        inference = lowrank_attention(*inputs, degree=6, bound=0.7).output
    output = lowrank_attention(*(x.requires_grad_() for x in inputs), degree=6, bound=0.7).output
    output.sum().backward()
    assert torch.equal(output, inference)


_PEAK = """
import resource, torch
from flowgression.ops.lowrank import lowrank_attention
torch.set_num_threads(1)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss  # KiB
make = lambda n: [torch.randn(1, n * n, 8) for _ in range(3)]
with torch.no_grad():
    lowrank_attention(*make(8), degree=4, bound=1.0)
    inputs, ballast, highest = make(128), [], peak()
    while (before := peak()) == highest:  # fill memory up to the peak of the start, so that any more shows
        ballast.append(torch.ones(2**16))
    lowrank_attention(*inputs, degree=4, bound=1.0)
print((peak() - before) / 1024)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="counts ru_maxrss in KiB, as Linux does")
def test_peak_memory_of_the_forward_pass():
    megabytes = float(subprocess.check_output([sys.executable, "-c", _PEAK]))
    assert 0 < megabytes <= 20


@pytest.mark.parametrize("shape", ["leading", "width", "tokens", "empty"])
def test_shapes_that_do_not_fit(shape):
    q, k, v = random_inputs((2,), 6)
    bad = {
        "leading": (q, k[:1], v),
        "width": (q, k[..., :2], v),
        "tokens": (q, k, v[:, :3]),
        "empty": (q[:, :0], k, v),
    }
    with pytest.raises(InputError, match="attention needs"):
        lowrank_attention(*bad[shape], degree=2, bound=1.0)


@pytest.mark.parametrize("lengths", [(), (3, 2), (7, -1), (6, 0)])
def test_block_lengths_that_do_not_fit(lengths):
    with pytest.raises(InputError, match="block_lengths="):
        lowrank_attention(*random_inputs((2,), 6), degree=2, bound=1.0, block_lengths=lengths)


def test_state_of_another_degree():
    inputs = random_inputs((2,), 6)
    state = lowrank_attention(*inputs, degree=2, bound=1.0).state
    with pytest.raises(InputError, match=r"state has shape \(2, 15, 4\), expected \(2, 70, 4\)"):
        lowrank_attention(*inputs, degree=4, bound=1.0, state=state)


@pytest.mark.parametrize(("degree", "bound"), [(3, 1.0), (4, 0.0), (4, -2.0), (4, math.inf)])
def test_bad_polynomials(degree, bound):
    with pytest.raises(InputError, match=r"degree=3|bound="):
        lowrank_attention(*random_inputs((2,), 6), degree=degree, bound=bound)


def test_rank_that_does_not_fit_in_memory():
    q = torch.zeros(1, 4, 128)
    with pytest.raises(InputError, match=r"rank C\(140, 12\) = [\d,]{10,}: its states need [\d,.]+ GiB and cpu has"):
        lowrank_attention(q, q, q, degree=12, bound=6.0)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("lengths", [None, SCALES])
def test_on_a_gpu(lengths):
    inputs = random_inputs((2, 3), 30, requires_grad=True)
    on_gpu = [x.detach().cuda().requires_grad_() for x in inputs]
    options = {"degree": 4, "bound": 1.0, "block_lengths": lengths}
    expected, output = (lowrank_attention(*x, **options).output for x in (inputs, on_gpu))
    assert_near(output.cpu(), expected, 1e-12)
    expected.sum().backward()
    output.sum().backward()
    for x, y in zip(inputs, on_gpu, strict=True):
        assert_near(y.grad.cpu(), x.grad, 1e-11)
