"""Every lemma on error balls: whatever lies in the ball that goes in comes out in the ball that comes out.

The other tensor is computed with 60 digits, and nothing is allowed beyond the radius, not even what float64 loses.
"""

import math
from collections.abc import Callable

import mpmath
import pytest
import torch
from mpmath import mpf
from torch import Tensor
from torch.nn.functional import gelu, interpolate, silu

from flowgression.families.flowar.scales import area_resize
from flowgression.theory.error import balls, rounding
from flowgression.theory.error.balls import Ball, Norms

TOKENS, WIDTH = 5, 6
Vector = list[mpf]  # of one token
Tokens = list[Vector]


@pytest.fixture(autouse=True)
def digits():
    with mpmath.workdps(60):
        yield


def a_ball(generator: torch.Generator, *shape: int) -> Ball:
    """Centres and radii of very different sizes: radii 0, from 1e-17, where rounding decides, to beyond the centre."""
    centre = torch.randn(*shape, generator=generator, dtype=torch.float64)
    centre = centre * 10 ** (2 * torch.rand(shape[:-1], generator=generator, dtype=torch.float64) - 1)[..., None]
    radius = 10 ** (18 * torch.rand(shape[:-1], generator=generator, dtype=torch.float64) - 17)
    return Ball(centre, radius * (torch.rand(shape[:-1], generator=generator) < 0.7))


def dot(a: Vector, b: Vector) -> mpf:
    return mpmath.fsum(x * y for x, y in zip(a, b, strict=True))


def exactly(x: Tensor) -> Tokens:
    """[T, D] -> lists of mpf."""
    return [[mpf(number) for number in row] for row in x.tolist()]


def inside(ball: Ball, generator: torch.Generator) -> Tokens:
    """A tensor on the surface of a ball [T, D], or towards 0, where norms bend most."""
    found = []
    for centre, radius in zip(exactly(ball.centre), ball.radius.tolist(), strict=True):
        direction = [mpf(x) for x in torch.randn(len(centre), generator=generator, dtype=torch.float64).tolist()]
        if torch.rand((), generator=generator) < 0.3:
            direction = [-x for x in centre]
        length = mpmath.sqrt(dot(direction, direction))
        step = mpf(radius) * (1 - mpf(10) ** -50) / length if length else mpf(0)
        found.append([c + step * x for c, x in zip(centre, direction, strict=True)])
    return found


def assert_contains(ball: Ball, x: Tokens) -> None:
    for centre, radius, other in zip(exactly(ball.centre), ball.radius.tolist(), x, strict=True):
        difference = [a - b for a, b in zip(centre, other, strict=True)]
        distance = mpmath.sqrt(dot(difference, difference))
        assert distance <= mpf(radius), (distance, radius)


def each(function: Callable[[Vector], Vector]) -> Callable[[Tokens], Tokens]:
    return lambda x: [function(row) for row in x]


def rms(x: Vector, eps: float, weight: Vector | None = None) -> Vector:
    factor = 1 / mpmath.sqrt(dot(x, x) / len(x) + mpf(eps))
    return [factor * a * b for a, b in zip(x, weight or [mpf(1)] * len(x), strict=True)]


def normalised(x: Vector) -> Vector:
    length = max(mpmath.sqrt(dot(x, x)), mpf(1e-12))
    return [a / length for a in x]


def affine(x: Vector) -> Vector:
    rows, bias = exactly(LAYER.weight.detach()), exactly(LAYER.bias.detach()[None])[0]
    return [dot(row, x) + b for row, b in zip(rows, bias, strict=True)]


torch.manual_seed(0)
LAYER = torch.nn.Linear(WIDTH, 4).double()
WEIGHT = torch.linspace(-2, 3, WIDTH, dtype=torch.float64)
NORMS = Norms.of(LAYER.weight.detach(), LAYER.bias.detach())
RULES: dict[str, tuple[Callable[[Ball], Ball], Callable[[Vector], Vector]]] = {
    "linear": (lambda x: balls.linear(x, LAYER.weight, LAYER.bias, NORMS), affine),
    "gelu": (balls.activation_gelu, lambda x: [a * mpmath.ncdf(a) for a in x]),
    "silu": (balls.activation_silu, lambda x: [a / (1 + mpmath.exp(-a)) for a in x]),
    "rms": (lambda x: balls.rms_normalised(x, 1e-6, None), lambda x: rms(x, 1e-6)),
    "rms with weight": (
        lambda x: balls.rms_normalised(x, 1e-2, WEIGHT),
        lambda x: rms(x, 1e-2, exactly(WEIGHT[None])[0]),
    ),
    "rms without eps": (lambda x: balls.rms_normalised(x, 0.0, None), lambda x: rms(x, 0.0)),
    "unit": (balls.unit, normalised),
    "scaled": (lambda x: balls.scaled(x, 1 - 3.1), lambda x: [(1 - mpf(3.1)) * a for a in x]),
    "plus one": (balls.plus_one, lambda x: [1 + a for a in x]),
}


@pytest.mark.parametrize("name", RULES)
@torch.no_grad()
def test_a_rule_of_one_tensor(name: str) -> None:
    rule, function = RULES[name]
    generator = torch.Generator().manual_seed(0)
    for _ in range(40):
        ball = a_ball(generator, TOKENS, WIDTH)
        assert_contains(rule(ball), each(function)(inside(ball, generator)))


@pytest.mark.parametrize("name", RULES)
@torch.no_grad()
def test_rounding_alone_fills_a_good_part_of_its_bound(name: str) -> None:
    """A centre is off by rounding, and its radius no more than some hundred times too large."""
    rule, function = RULES[name]
    generator = torch.Generator().manual_seed(5)
    used = 0.0
    for _ in range(40):
        x = balls.exact(a_ball(generator, TOKENS, WIDTH).centre)
        found = rule(x)
        for centre, radius, other in zip(
            exactly(found.centre), found.radius.tolist(), each(function)(exactly(x.centre)), strict=True
        ):
            off = [a - b for a, b in zip(centre, other, strict=True)]
            used = max(used, float(mpmath.sqrt(dot(off, off)) / mpf(radius)))
    assert 0.005 < used <= 1


def test_sums_and_products() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        a, b = a_ball(generator, TOKENS, WIDTH), a_ball(generator, 1, WIDTH)  # one condition for all tokens
        x, y = inside(a, generator), inside(b, generator) * TOKENS
        assert_contains(a + b, [[p + q for p, q in zip(*rows, strict=True)] for rows in zip(x, y, strict=True)])
        assert_contains(
            balls.product(a, b), [[p * q for p, q in zip(*rows, strict=True)] for rows in zip(x, y, strict=True)]
        )


def test_a_resampled_map() -> None:
    generator = torch.Generator().manual_seed(2)
    basis = torch.eye(3, dtype=torch.float64)[:, None, :, None].expand(-1, -1, -1, 3)
    larger = interpolate(basis, size=(8, 8), mode="bicubic", align_corners=False)
    matrix = area_resize(larger, 5)[:, 0, :, 0].T.contiguous()
    weights = exactly(matrix)
    for _ in range(4):
        ball = a_ball(generator, 9, 2)
        x = inside(ball, generator)
        found = balls.resampled(Ball(ball.centre.view(1, 3, 3, 2), ball.radius.view(1, 3, 3)), matrix, matrix)
        expected = [
            [mpmath.fsum(r[h] * x[3 * h + w][c] * s[w] for h in range(3) for w in range(3)) for c in range(2)]
            for r in weights
            for s in weights
        ]
        assert_contains(Ball(found.centre[0].flatten(0, 1), found.radius[0].flatten()), expected)


def softmax(q: Vector, k: Tokens, v: Tokens) -> Vector:
    weights = [mpmath.exp(dot(q, each)) for each in k]
    total = mpmath.fsum(weights)
    return [dot(weights, [row[c] for row in v]) / total for c in range(len(v[0]))]


def test_softmax_attention_against_weights_that_are_off() -> None:
    """The centre is any attention whose weights are exp(q.k) times factors in [1-eps, 1+eps]."""
    generator = torch.Generator().manual_seed(3)
    for trial in range(80):
        q, k, v = (a_ball(generator, count, 4) for count in (3, TOKENS, TOKENS))
        epsilon = (0.0, 0.0, 0.03, 0.4, 0.999)[trial % 5]
        off = 1 + epsilon * (2 * torch.rand(3, TOKENS, generator=generator, dtype=torch.float64) - 1)
        logits = q.centre @ k.centre.mT
        weights = (logits - logits.amax(-1, keepdim=True)).exp() * off
        centre = (weights @ v.centre) / weights.sum(-1, keepdim=True)
        from_heads = [Ball(ball.centre[None, None], ball.radius[None, None]) for ball in (q, k, v)]
        lost = 4 * rounding.UNIT * logits.abs().max().item() + 2 * rounding.FUNCTION + 4 * rounding.UNIT
        radius, own = balls.attention(*from_heads, centre[None, None], epsilon, lost)
        x, y, z = (inside(ball, generator) for ball in (q, k, v))
        assert_contains(Ball(centre, radius[0, 0]), [softmax(row, y, z) for row in x])
        assert (own <= radius).all()


def test_the_slopes_of_the_activations_are_the_largest() -> None:
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64, requires_grad=True)
    for function, slope in ((gelu, balls.GELU_SLOPE), (silu, balls.SILU_SLOPE)):
        (gradient,) = torch.autograd.grad(function(x).sum(), x)
        largest = gradient.abs().max().item()
        assert largest <= slope < largest + 2e-4


@torch.no_grad()
def test_a_radius_of_zero_grows_by_rounding_alone() -> None:
    x = balls.exact(torch.randn(TOKENS, WIDTH, dtype=torch.float64))
    for rule, _ in RULES.values():
        radius = rule(x).radius
        assert (radius > 0).all()
        assert (radius < 1e-12).all()


@pytest.mark.parametrize("eps", [0.0, 1e-6])
def test_rms_norm_where_there_is_nothing_to_divide_by(eps: float) -> None:
    """0 / 0: the result is unknown, and no longer than sqrt(D)."""
    centre = torch.zeros(4, WIDTH, dtype=torch.float64)
    centre[2] = 1e-170  # whose square is 0
    x = Ball(centre, torch.tensor([0.0, 1e-3, 0.0, 1e-200], dtype=torch.float64))
    found = balls.rms_normalised(x, eps, None)
    assert found.centre.isfinite().all()
    assert (found.radius <= math.sqrt(WIDTH) * (1 + 1e-12)).all()
    if not eps:
        assert (found.radius >= math.sqrt(WIDTH)).all()
    assert_contains(Ball(found.centre[2:3], found.radius[2:3]), [rms(row, eps) for row in exactly(centre[2:3])])


@pytest.mark.parametrize("shape", [(7, 3), (3, 7), (2, 3, 5, 5)])
def test_norms_of_matrices_are_no_smaller_than_they_are(shape: tuple[int, ...]) -> None:
    """Also of matrices of rank one and of orthogonal ones, whose norms are known."""
    generator = torch.Generator().manual_seed(6)
    matrix = torch.randn(shape, generator=generator, dtype=torch.float64)
    for each in (matrix, matrix[..., :1] * matrix[..., :1, :], torch.linalg.qr(matrix).Q):
        found = rounding.spectral_norm(each).flatten().tolist()
        for bound, part in zip(found, each.reshape(-1, *each.shape[-2:]), strict=True):
            rows = mpmath.matrix(exactly(part))
            largest = max(mpmath.svd_r(rows, compute_uv=False))
            assert largest <= mpf(bound) <= largest * (1 + mpf(10) ** -12)


def test_nothing_known_of_the_weights_leaves_the_values() -> None:
    generator = torch.Generator().manual_seed(7)
    x = balls.exact(torch.randn(1, 1, TOKENS, WIDTH, generator=generator, dtype=torch.float64))
    centre = 100 + x.centre  # no mean of the values at all
    radius, _ = balls.attention(x, x, x, centre, 1.0, math.inf)
    assert radius.isfinite().all()
    farthest = torch.cdist(centre, x.centre).amax(-1)
    assert (radius >= farthest).all()
