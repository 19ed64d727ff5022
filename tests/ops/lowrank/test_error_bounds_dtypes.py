"""The certificate for queries, keys and values of all pairs of dtypes, searched for violations by optimisation."""

import itertools
import math

import pytest
import torch
from torch import Tensor
from torch.nn.functional import normalize

from flowgression.layers.lowrank_attention import ApproximatedAttention, PolynomialForm
from flowgression.layers.softmax_attention import SoftmaxAttention
from flowgression.ops import error_certificate, logit_bounds, lowrank_attention, softmax_attention
from flowgression.ops.lowrank import error_bounds, naive_polynomial_attention

DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
HEADS, D = 32, 3
# Of high degree, so that rounding decides; tokens within a block and beyond it.
POLYNOMIALS = [(10, 0.5, 3), (8, 1.0, 70)]


class Layer(PolynomialForm):
    """The attention of a model: by its logits where tokens are few."""

    causal = True

    def __init__(self, degree: int, bound: float):
        self._set_polynomial(degree, bound, HEADS, D)

    def __call__(self, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        return self.attend(q[None], k[None], v[None], [q.shape[1]], None)[0][0]


def ratios(
    q: Tensor, k: Tensor, v: Tensor, dtypes: tuple[torch.dtype, ...], degree: int, bound: float, form: str
) -> Tensor:
    """Error over certificate of every head [H], for float64 inputs rounded to `dtypes`."""
    q, k, v = (x.to(dtype) for x, dtype in zip((q, k, v), dtypes, strict=True))
    settings = {"degree": degree, "bound": bound}
    assert logit_bounds(q.double(), k.double(), scale=1.0).cauchy_schwarz.max() <= bound
    if form == "layer":
        output = Layer(**settings)(q, k, v)
    else:
        function = {"features": lowrank_attention, "naive": naive_polynomial_attention}[form]
        output = function(q, k, v, **settings, scale=1.0).output
    assert output.dtype == v.dtype
    exact = softmax_attention(q.double(), k.double(), v.double(), scale=1.0).output
    widest = max(dtypes, key=lambda dtype: dtype.itemsize)
    total = error_certificate(v, **settings, head_dim=D, dtype=widest).total
    # What float64 loses in the reference, as in test_error_bounds_search.py.
    reference = 4 * (k.shape[1] + D * bound + 20) * 2.0**-53 * v.double().abs().amax(-2)
    error = (output.double() - exact).abs().amax(-2) - reference
    return (error / total).amax(-1)


def climb(dtypes: tuple[torch.dtype, ...], degree: int, tau: float, tokens: int, form: str, steps: int) -> float:
    """The largest ratio that mutation and selection find: a population of heads, the better half of it kept."""
    generator = torch.Generator().manual_seed(degree)

    bound = 1.02 * tau  # rounded to half precision, vectors may be a little longer

    def normal(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=generator, dtype=torch.float64)

    def unit(x: Tensor) -> Tensor:
        return math.sqrt(tau) * normalize(x, dim=-1)

    q, k = unit(normal(HEADS, tokens, D)), unit(normal(HEADS, tokens, D))
    v = 1 + 0.02 * normal(HEADS, tokens, 2)  # a little above a power of two, where rounding to a dtype costs most
    v[::4] = normal(HEADS // 4, tokens, 2)
    fitness, best = ratios(q, k, v, dtypes, degree, bound, form), 0.0
    for step in range(steps):
        size = 10.0 ** (-4 * step / steps)
        children = (unit(q + size * normal(*q.shape)), unit(k + size * normal(*k.shape)), v + size * normal(*v.shape))
        found = ratios(*children, dtypes, degree, bound, form)
        better = (found > fitness)[:, None, None]
        q, k, v = (torch.where(better, *each) for each in zip(children, (q, k, v), strict=True))
        fitness = torch.maximum(found, fitness)
        best = max(best, fitness.max().item())
        worse, leading = fitness.argsort().chunk(2)
        for x in (q, k, v, fitness):
            x[worse] = x[leading]
    return best


def pairs() -> list[tuple[torch.dtype, ...]]:
    """Of queries, keys and values: both of one dtype and the values of any, and some with three."""
    mixed = [(torch.float64, torch.bfloat16, torch.float32), (torch.bfloat16, torch.float32, torch.float16)]
    return [(a, a, b) for a, b in itertools.product(DTYPES, DTYPES)] + mixed


@pytest.mark.parametrize("form", ["features", "layer", "naive"])
def test_no_pair_of_dtypes_breaks_the_certificate(form: str) -> None:
    for dtypes in pairs():
        for degree, tau, tokens in POLYNOMIALS:
            assert climb(dtypes, degree, tau, tokens, form, steps=12) <= 1, (dtypes, degree)


@pytest.mark.slow
@pytest.mark.parametrize("form", ["features", "layer", "naive"])
def test_no_pair_of_dtypes_breaks_the_certificate_in_a_long_search(form: str) -> None:
    found = {}
    for dtypes in pairs():
        for degree, tau, tokens in POLYNOMIALS:
            found[dtypes, degree] = climb(dtypes, degree, tau, tokens, form, steps=200)
    print("\n" + "\n".join(f"{key}: {ratio:.3f}" for key, ratio in found.items()))
    assert max(found.values()) <= 1


def test_the_search_finds_that_the_output_is_rounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(error_bounds, "_stored", lambda error, *_: error)
    for dtypes in pairs():
        if dtypes[2].itemsize < max(4, dtypes[0].itemsize, dtypes[1].itemsize):
            assert climb(dtypes, *POLYNOMIALS[0], "features", steps=3) > 1, dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_float64_is_rounded_to_half_precision_twice(dtype: torch.dtype) -> None:
    """Just above the middle of two numbers: float32 rounds it to the middle, and then it is rounded away."""
    unit = torch.finfo(dtype).eps / 2
    middle = torch.tensor([1 + unit * (1 + 2.0**-25)], dtype=torch.float64)
    assert middle.to(dtype).item() == 1
    assert middle.item() - 1 > unit
    stored = error_bounds._stored(torch.zeros(1, dtype=torch.float64), middle, torch.float64, dtype)
    assert (middle.item() - 1) <= stored.item() <= 1.01 * unit * middle.item()


def test_values_wider_than_the_computation_are_rounded_first() -> None:
    v = torch.rand(9, 2, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for dtype in DTYPES[1:]:
        given, rounded = (
            error_certificate(x, degree=4, bound=1.0, head_dim=D, dtype=dtype).total for x in (v, v.to(dtype))
        )
        assert torch.equal(given, rounded)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_keys_in_half_precision_are_centred_without_rounding_them_again(dtype: torch.dtype) -> None:
    attention = ApproximatedAttention(SoftmaxAttention(2, 5, causal=True), 4, 1.0, 2, 5)
    generator = torch.Generator().manual_seed(0)
    q, k = (torch.randn(1, 2, 9, 5, generator=generator).to(dtype) for _ in range(2))
    attention.shift.copy_(torch.randn(2, 5, generator=generator))
    factors = attention.logit_factors(q, k)
    assert torch.equal(factors[0], q.float() / 5**0.5)
    assert torch.equal(factors[1], k.float() - attention.shift[:, None])
