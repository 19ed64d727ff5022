"""The known truth of these tests: data x1 ~ N(mean, deviation^2), for which every path has closed forms in float64.

The formulas are written out here on their own; nothing is taken from the code under test.
"""

import math
from dataclasses import dataclass

import pytest
from torch import Tensor


def signal(path: str, t: float) -> tuple[float, float, float, float]:
    """alpha, sigma^2 and their derivatives by t, as the papers print them."""
    if path == "linear":
        return t, (1 - t) ** 2, 1.0, -2 * (1 - t)
    if path == "gvp":
        sine, cosine = math.sin(math.pi * t / 2), math.cos(math.pi * t / 2)
        return sine, cosine**2, math.pi / 2 * cosine, -math.pi * sine * cosine
    alpha = math.exp(-0.25 * (1 - t) ** 2 * (20.0 - 0.1) - 0.5 * (1 - t) * 0.1)
    beta = 0.1 + (1 - t) * (20.0 - 0.1)
    return alpha, 1 - alpha**2, beta / 2 * alpha, -beta * alpha**2


@dataclass(frozen=True)
class Gaussian:
    path: str
    mean: float = 0.7
    deviation: float = 0.5

    def moments(self, t: float) -> tuple[float, float]:
        """Mean and variance of x_t."""
        alpha, noise_variance, _, _ = signal(self.path, t)
        return alpha * self.mean, alpha**2 * self.deviation**2 + noise_variance

    def velocity(self, x: Tensor, t: Tensor, state: None = None) -> tuple[Tensor, None]:
        """E[alpha' x1 + sigma' x0 | x_t = x] = M' + V' / (2 V) (x - M) with M, V the moments of x_t."""
        alpha, _, d_alpha, d_noise_variance = signal(self.path, float(t))
        mean, variance = self.moments(float(t))
        d_variance = 2 * alpha * d_alpha * self.deviation**2 + d_noise_variance
        return d_alpha * self.mean + d_variance / (2 * variance) * (x - mean), None

    def flow(self, x: Tensor, start: float, end: float) -> Tensor:
        """Where the ODE carries x from one time to another: standardised values stay what they are."""
        (m0, v0), (m1, v1) = self.moments(start), self.moments(end)
        return m1 + math.sqrt(v1 / v0) * (x - m0)


@pytest.fixture(params=["linear", "gvp", "vp"])
def gaussian(request: pytest.FixtureRequest) -> Gaussian:
    return Gaussian(request.param)


def observed_order(errors: list[float]) -> float:
    """The order of convergence seen between the last two errors, the step having been halved."""
    return math.log2(errors[-2] / errors[-1])


@pytest.fixture(name="observed_order")
def observed_order_fixture():
    return observed_order
