"""Every lemma on error balls: whatever lies in the ball that goes in comes out in the ball that comes out."""

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from torch.nn.functional import gelu, interpolate, linear, normalize, silu

from flowgression.families.flowar.scales import area_resize
from flowgression.layers.norms import rms_norm
from flowgression.theory.error import balls
from flowgression.theory.error.balls import Ball

TOKENS, WIDTH = 7, 6
Rule = tuple[Callable[[Ball], Ball], Callable[[Tensor], Tensor]]


def a_ball(generator: torch.Generator, *shape: int) -> Ball:
    """Centres and radii of very different sizes: radii from 1e-9 to beyond the centre itself."""
    centre = torch.randn(*shape, generator=generator, dtype=torch.float64)
    centre = centre * 10 ** (2 * torch.rand(shape[:-1], generator=generator, dtype=torch.float64) - 1)[..., None]
    return Ball(centre, 10 ** (10 * torch.rand(shape[:-1], generator=generator, dtype=torch.float64) - 9))


def inside(ball: Ball, generator: torch.Generator) -> Tensor:
    """A tensor on the surface of the ball, or towards 0, where norms bend most."""
    direction = torch.randn(ball.centre.shape, generator=generator, dtype=torch.float64)
    towards_zero = torch.rand(ball.radius.shape, generator=generator) < 0.3
    direction = torch.where(towards_zero[..., None], -ball.centre, direction)
    return ball.centre + ball.radius[..., None] * normalize(direction, dim=-1)


def assert_contains(ball: Ball, x: Tensor) -> None:
    distance = (x - ball.centre).norm(dim=-1)
    slack = 1e-12 * (1 + ball.centre.norm(dim=-1) + x.norm(dim=-1))  # float64 computes all of it
    assert (distance <= ball.radius * (1 + 1e-9) + slack).all(), (distance - ball.radius).max()


LAYER = nn.Linear(WIDTH, 5).double()
WEIGHT = torch.linspace(-2, 3, WIDTH, dtype=torch.float64)
RULES: dict[str, Rule] = {
    "linear": (lambda x: balls.linear(x, LAYER), lambda x: linear(x, LAYER.weight, LAYER.bias)),
    "gelu": (balls.activation_gelu, gelu),
    "silu": (balls.activation_silu, silu),
    "rms": (lambda x: balls.rms_normalised(x, 1e-6, None), lambda x: rms_norm(x, 1e-6)),
    "rms with weight": (lambda x: balls.rms_normalised(x, 1e-2, WEIGHT), lambda x: rms_norm(x, 1e-2, WEIGHT)),
    "unit": (balls.unit, lambda x: normalize(x, dim=-1)),
    "scaled": (lambda x: balls.scaled(x, -3.0), lambda x: -3 * x),
    "plus one": (balls.plus_one, lambda x: 1 + x),
}


@pytest.mark.parametrize("name", RULES)
def test_a_rule_of_one_tensor(name: str) -> None:
    rule, function = RULES[name]
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for _ in range(40):
            ball = a_ball(generator, TOKENS, WIDTH)
            assert_contains(rule(ball), function(inside(ball, generator)))


def test_sums_and_products() -> None:
    generator = torch.Generator().manual_seed(1)
    for _ in range(40):
        a, b = a_ball(generator, TOKENS, WIDTH), a_ball(generator, 1, WIDTH)  # one condition for all tokens
        x, y = inside(a, generator), inside(b, generator)
        assert_contains(a + b, x + y)
        assert_contains(balls.product(a, b), x * y)


def test_a_resampled_map() -> None:
    generator = torch.Generator().manual_seed(2)
    basis = torch.eye(3, dtype=torch.float64)[:, None, :, None].expand(-1, -1, -1, 3)
    larger = interpolate(basis, size=(8, 8), mode="bicubic", align_corners=False)
    matrix = area_resize(larger, 5)[:, 0, :, 0].T
    for _ in range(10):
        ball = a_ball(generator, 2, 3, 3, WIDTH)
        x = inside(ball, generator).permute(0, 3, 1, 2)
        expected = area_resize(interpolate(x, size=(8, 8), mode="bicubic", align_corners=False), 5)
        assert_contains(balls.resampled(ball, matrix, matrix), expected.permute(0, 2, 3, 1))


def test_softmax_attention_against_weights_that_are_off() -> None:
    """The centre is any attention whose weights are exp(q.k) times factors in [1-eps, 1+eps]."""
    generator = torch.Generator().manual_seed(3)
    for trial in range(80):
        q, k, v = (a_ball(generator, 1, 2, count, 4) for count in (3, TOKENS, TOKENS))
        epsilon = (0.0, 0.03, 0.4, 0.999)[trial % 4]
        off = 1 + epsilon * (2 * torch.rand(1, 2, 3, TOKENS, generator=generator, dtype=torch.float64) - 1)
        logits = q.centre @ k.centre.mT
        weights = (logits - logits.amax(-1, keepdim=True)).exp() * off
        centre = (weights @ v.centre) / weights.sum(-1, keepdim=True)
        radius, own = balls.attention(q, k, v, epsilon)
        x, y, z = (inside(ball, generator) for ball in (q, k, v))
        assert_contains(Ball(centre, radius), torch.softmax(x @ y.mT, -1) @ z)
        assert_contains(Ball(centre, own), torch.softmax(logits, -1) @ v.centre)
        assert (own <= radius).all()


def test_the_slopes_of_the_activations_are_the_largest() -> None:
    x = torch.linspace(-12, 12, 200_001, dtype=torch.float64, requires_grad=True)
    for function, slope in ((gelu, balls.GELU_SLOPE), (silu, balls.SILU_SLOPE)):
        (gradient,) = torch.autograd.grad(function(x).sum(), x)
        largest = gradient.abs().max().item()
        assert largest <= slope < largest + 2e-4


def test_a_radius_of_zero_stays_zero() -> None:
    x = balls.exact(torch.randn(TOKENS, WIDTH, dtype=torch.float64))
    for rule, _ in RULES.values():
        assert (rule(x).radius == 0).all()
    radius, own = balls.attention(*(Ball(x.centre[None, None], x.radius[None, None]) for _ in range(3)), 0.0)
    assert (radius == 0).all()
    assert (own == 0).all()


def test_nothing_known_of_the_weights_leaves_the_diameter() -> None:
    x = balls.exact(torch.randn(1, 1, TOKENS, WIDTH, dtype=torch.float64))
    radius, _ = balls.attention(x, x, x, 1.0)
    spread = torch.cdist(x.centre[0, 0], x.centre[0, 0]).max()
    assert math.isfinite(radius.max())
    assert radius.max() >= spread
