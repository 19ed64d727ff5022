"""Low-rank attention in C++ against the dense polynomial in float64 and against the backend of torch."""

import pytest
import torch

from flowgression.errors import InputError
from flowgression.ops.lowrank import error_certificate, lowrank_attention, naive_polynomial_attention, native
from tests.ops.lowrank.cases import KINDS, unit_inputs

BOUND = 1.0
SIZES = [(4, 3, 4), (8, 8, 2)]  # d, e, degree
needs_compiler = pytest.mark.skipif(native.compiler() is None, reason="needs g++")


@pytest.fixture(autouse=True)
def poisoned_memory():
    """Memory that is read before it is written holds NaN."""
    torch.use_deterministic_algorithms(True)
    yield
    torch.use_deterministic_algorithms(False)


@needs_compiler
@pytest.mark.parametrize(("d", "e", "degree"), SIZES)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tokens", "lengths"), [(1, None), (63, None), (4097, None), (200, (1, 4, 9, 16, 170))])
def test_is_as_near_as_the_certificate_says(d, e, degree, kind, tokens, lengths):
    q, k, v = unit_inputs(kind, 2, tokens, d, e=e, dtype=torch.float32)
    options = {"degree": degree, "bound": BOUND, "scale": 1.0}
    if lengths is None:
        q = q[:, :50]
    output = lowrank_attention(q, k, v, **options, block_lengths=lengths, backend="native").output
    exact = naive_polynomial_attention(q.double(), k.double(), v.double(), **options, block_lengths=lengths).output
    allowed = error_certificate(v, degree=degree, bound=BOUND, head_dim=d).rounding[:, None]
    assert ((output.double() - exact).abs() <= allowed).all()


@needs_compiler
@pytest.mark.parametrize(("d", "e", "degree"), SIZES)
def test_states_and_gradients_are_those_of_torch(d, e, degree):
    """Both add the same terms in blocks of 64, so a state differs by 2 (64 + 2 degree + 4) roundings at most, and
    the gradients, which one piece of code computes, by what that makes of it: 1e-5 covers each.
    """
    q, k, v = unit_inputs("random", 2, 100, d, e=e, dtype=torch.float32)
    start = lowrank_attention(q, k, v, degree=degree, bound=BOUND).state
    found = []
    for backend in ("native", "torch"):
        inputs = [x.clone().requires_grad_() for x in (q, k, v, start)]
        options = {"degree": degree, "bound": BOUND, "block_lengths": (1, 36, 63), "backend": backend}
        output, state = lowrank_attention(*inputs[:3], state=inputs[3], **options)
        found.append([state, *torch.autograd.grad(output.square().sum() + state.sum(), inputs)])
    for actual, wanted in zip(*found, strict=True):
        assert (actual - wanted).abs().max() <= 1e-5 * wanted.abs().max()


@needs_compiler
def test_memory_behind_the_tokens_is_not_read():
    q, k, v = (torch.full((1, 200, 8), torch.nan) for _ in range(3))
    for x, y in zip((q, k, v), unit_inputs("random", 1, 70, 8, e=8, dtype=torch.float32), strict=True):
        x[:, 60:130] = y
    parts = [x[:, 60:130] for x in (q, k, v)]
    assert lowrank_attention(*parts, degree=2, bound=BOUND, backend="native").output.isfinite().all()


def test_what_it_does_not_take(monkeypatch):
    x = torch.ones(1, 2, 2)
    with pytest.raises(InputError, match="it takes float32 and half precision"):
        lowrank_attention(x.double(), x, x, degree=2, bound=BOUND, backend="native")
    with pytest.raises(InputError, match="degrees up to 8 and queries up to a width of"):
        lowrank_attention(x, x, x, degree=10, bound=BOUND, backend="native")
    monkeypatch.setenv("CXX", "no-such-compiler")
    with pytest.raises(InputError, match=r"there is no g\+\+"):
        lowrank_attention(x, x, x, degree=2, bound=BOUND, backend="native")
