"""The certificate against measured errors: never below them, attained where it should be, and the acceptance errors."""

import math

import pytest
import torch

from flowgression import InputError
from flowgression.ops import error_certificate, logit_bounds, lowrank_attention, minimax_exp, softmax_attention
from flowgression.ops.lowrank import truncation_factor
from flowgression.ops.lowrank.minimax import horner
from tests.ops.lowrank.cases import KINDS, unit_inputs

# (degree, tau, head width): 13 polynomials x 4 kinds x 64 heads = 3,328 cases for each dtype
POLYNOMIALS = [(g, tau, 8) for g in (2, 4) for tau in (0.25, 0.5, 1.0, 2.0, 4.0)] + [
    (6, tau, 4) for tau in (1.0, 2.0, 4.0)
]


def worst_error(inputs, dtype, **options):
    """Measured error per head and channel, against softmax in float64 of the same numbers."""
    rounded = [x.to(dtype) for x in inputs]
    exact = softmax_attention(*(x.double() for x in rounded), scale=options["scale"]).output
    return (lowrank_attention(*rounded, **options).output.double() - exact).abs().amax(-2)


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
@pytest.mark.parametrize("kind", KINDS)
def test_never_below_the_measured_error(kind, dtype):
    for seed, (degree, tau, d) in enumerate(POLYNOMIALS):
        inputs = unit_inputs(kind, 64, 64, d, seed=seed)
        error = worst_error(inputs, dtype, degree=degree, bound=tau, scale=tau)
        certificate = error_certificate(inputs[2], degree=degree, bound=tau, head_dim=d, dtype=dtype)
        assert (error <= certificate.total).all(), (degree, tau, (error / certificate.total).max())


@pytest.mark.parametrize("kind", KINDS)
def test_never_below_the_measured_error_on_long_sequences(kind):
    # Where the rounding of long sums decides: a polynomial exact to 1e-8 in float32.
    q, k, v = unit_inputs(kind, 1, 16384, 3)
    inputs = (q[:, :64], k, v)
    for degree, tau in ((8, 1.0), (6, 0.25)):
        error = worst_error(inputs, torch.float32, degree=degree, bound=tau, scale=tau)
        certificate = error_certificate(inputs[2].float(), degree=degree, bound=tau, head_dim=3)
        assert (error <= certificate.total).all()
        assert (certificate.rounding > certificate.truncation).all()


def test_rounding_term_is_needed_in_float32():
    inputs = unit_inputs("random", 8, 1024, 3)
    error = worst_error(inputs, torch.float32, degree=8, bound=1.0, scale=1.0)
    assert (error > error_certificate(inputs[2], degree=8, bound=1.0, head_dim=3).truncation).any()


@pytest.mark.parametrize("degree", [2, 4, 6])
@pytest.mark.parametrize("tau", [0.5, 1.0, 2.0, 4.0])
def test_attained_on_rows_of_two_points(degree, tau):
    # One key at the logit a where the polynomial is too high by eps, one at b where it is too low by eps, repeated so
    # that their softmax weights stand as (1-eps)^(1/2) to (1+eps)^(1/2), where the tilt moves the mean most.
    coefficients, _ = minimax_exp(degree, tau)
    logits = torch.linspace(-tau, tau, 20_001, dtype=torch.float64)
    error = horner(coefficients, logits) * (-logits).exp() - 1
    eps = error.abs().amax().item()
    high, low = (logits[sign * error > eps * (1 - 1e-5)] for sign in (1, -1))
    nearest = (high[:, None] - low).abs()  # near each other, so that neither kind of key is rare
    a, b = (high[nearest.amin(1).argmin()].item(), low[nearest.amin(0).argmin()].item())
    wanted = math.sqrt((1 - eps) / (1 + eps)) * math.exp(b - a)  # number of keys at a over number at b
    share = wanted / (1 + wanted)
    of_a = max(1, round(4000 * share))
    cosine = torch.cat([torch.full((of_a,), a / tau), torch.full((4000 - of_a,), b / tau)]).double()
    k = torch.stack([cosine, (1 - cosine.square()).clamp(min=0).sqrt()], -1)
    q = torch.tensor([[1.0, 0.0]], dtype=torch.float64)
    v = torch.cat([torch.ones(of_a, 1), torch.zeros(4000 - of_a, 1)]).double()
    measured = worst_error((q, k, v), torch.float64, degree=degree, bound=tau, scale=tau).item()
    certificate = error_certificate(v, degree=degree, bound=tau, head_dim=2)
    assert 0.99 * certificate.total.item() <= measured <= certificate.total.item()


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("tau", "degree", "limit"), [(1.0, 4, 5.2e-4), (1.0, 2, 4.2e-2), (2.0, 4, 1.7e-2)])
def test_errors_of_the_specified_polynomials(kind, tau, degree, limit):
    # Also where the values are tied to the keys so that the errors of the weights add up.
    inputs = unit_inputs(kind, 8, 512, 8)
    assert worst_error(inputs, torch.float32, degree=degree, bound=tau, scale=tau).max() <= limit
    certificate = error_certificate(inputs[2], degree=degree, bound=tau, head_dim=8)  # values within [-1, 1]
    assert certificate.truncation.max() <= limit


def test_truncation_factor_by_its_definition():
    eps = 0.3
    assert truncation_factor(eps) == pytest.approx(math.tanh(math.log((1 + eps) / (1 - eps)) / 4))
    # The largest shift of a two-point mean by weights tilted with 1+eps and 1-eps, found by search.
    p = torch.linspace(0, 1, 100_001, dtype=torch.float64)
    shift = p * (1 + eps) / (p * (1 + eps) + (1 - p) * (1 - eps)) - p
    assert truncation_factor(eps) == pytest.approx(shift.max().item(), abs=1e-9)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision(dtype):
    inputs = [x.to(dtype) for x in unit_inputs("clustered", 8, 64, 4)]
    # Rounded to half precision, the vectors are no longer of unit length: the bound is measured.
    bound = logit_bounds(*(x.double() for x in inputs[:2]), scale=1.0).cauchy_schwarz.max().item()
    error = worst_error(inputs, dtype, degree=4, bound=bound, scale=1.0)
    assert (error <= error_certificate(inputs[2], degree=4, bound=bound, head_dim=4).total).all()


def test_product_bound_covers_long_nearly_orthogonal_vectors():
    # Small logits from vectors with large opposing parts: rounding follows sum |q_i k_i|, not the logit.
    torch.manual_seed(0)
    part, k = torch.rand(2, 4, 256, 1) + 4
    q, k = torch.cat([part, -part], -1), torch.cat([k, k + 1e-3], -1)
    v = torch.rand(4, 256, 3)
    bound, product = 0.05, (q.abs() @ k.abs().mT).max().item()
    assert logit_bounds(q.double(), k.double(), scale=1.0).largest.max() <= bound
    error = worst_error((q, k, v), torch.float32, degree=4, bound=bound, scale=1.0)
    narrow = error_certificate(v, degree=4, bound=bound, head_dim=2)
    assert (error <= error_certificate(v, degree=4, bound=bound, head_dim=2, product_bound=product).total).all()
    assert (error > narrow.total).any()
    with pytest.raises(InputError, match=r"product_bound=0\.01 must be at least bound=0.05"):
        error_certificate(v, degree=4, bound=bound, head_dim=2, product_bound=0.01)


@pytest.mark.parametrize("tokens", [3, 1500])
def test_logit_bounds(tokens):
    torch.manual_seed(0)
    q, k = torch.randn(2, tokens, 5), torch.randn(2, 9, 5)
    largest, cauchy_schwarz = logit_bounds(q, k, scale=-2.0)
    torch.testing.assert_close(largest, (2 * q @ k.mT).abs().amax((-2, -1)))
    torch.testing.assert_close(cauchy_schwarz, 2 * q.norm(dim=-1).amax(-1) * k.norm(dim=-1).amax(-1))
    assert (largest <= cauchy_schwarz).all()
