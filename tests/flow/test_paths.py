"""Paths: coefficients against finite differences, conversions against closed forms, shapes and errors."""

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.flow import LinearPath, get_path
from flowgression.flow.paths import PATHS

NAMES = sorted(PATHS)
inner_times = st.floats(0.01, 0.99)
values = st.floats(-10, 10)
float64 = {"dtype": torch.float64}


@pytest.mark.parametrize("name", NAMES)
def test_derivatives_match_finite_differences(name):
    path, h = get_path(name), 1e-6
    t = torch.linspace(0.01, 0.99, 37, **float64)
    low, here, high = path.coefficients(t - h), path.coefficients(t), path.coefficients(t + h)
    torch.testing.assert_close(here.d_alpha, (high.alpha - low.alpha) / (2 * h), rtol=1e-7, atol=1e-8)
    torch.testing.assert_close(here.d_sigma, (high.sigma - low.sigma) / (2 * h), rtol=1e-7, atol=1e-8)


@pytest.mark.parametrize("name", NAMES)
def test_second_derivatives_match_finite_differences(name):
    path, h = get_path(name), 1e-6
    t = torch.linspace(0.01, 0.99, 37, **float64)
    low, high = path.coefficients(t - h), path.coefficients(t + h)
    d2_alpha, d2_sigma = path.second_derivatives(t)
    torch.testing.assert_close(d2_alpha, (high.d_alpha - low.d_alpha) / (2 * h), rtol=1e-6, atol=1e-7)
    torch.testing.assert_close(d2_sigma, (high.d_sigma - low.d_sigma) / (2 * h), rtol=1e-6, atol=1e-7)
    velocity, acceleration = path.target_derivatives(torch.ones(37, **float64), torch.zeros(37, **float64), t, 2)
    torch.testing.assert_close(velocity, path.coefficients(t).d_alpha)
    torch.testing.assert_close(acceleration, d2_alpha)


@pytest.mark.parametrize("name", NAMES)
def test_ends_are_noise_and_data(name):
    c = get_path(name).coefficients(torch.tensor([0.0, 1.0], **float64))
    torch.testing.assert_close(c.alpha, torch.tensor([0.0, 1.0], **float64), rtol=0, atol=7e-3 if name == "vp" else 0)
    torch.testing.assert_close(c.sigma, torch.tensor([1.0, 0.0], **float64), rtol=0, atol=3e-5 if name == "vp" else 0)


def score(path, v, x, t):
    """The score that a velocity belongs to, by what the SDE solvers use."""
    a, b = path.score_coefficients(t)
    return a * v + b * x


def data(path, v, x, t):
    """The data that a velocity leads to, by what networks that predict them use."""
    a, b = path.data_coefficients(t)
    return (v - b * x) / a


@pytest.mark.parametrize("name", ["gvp", "vp"])
def test_variance_is_preserved(name):
    c = get_path(name).coefficients(torch.linspace(0, 1, 11, **float64))
    torch.testing.assert_close(c.alpha**2 + c.sigma**2, torch.ones(11, **float64))


@pytest.mark.parametrize("name", NAMES)
@given(t=inner_times, image=values, noise=values)
@settings(max_examples=60, deadline=None)
def test_velocity_gives_score_and_data_back(name, t, image, noise):
    path = get_path(name)
    time, x1, x0 = (torch.tensor(v, **float64) for v in (t, image, noise))
    x, v = path.interpolate(x1, x0, time), path.target_velocity(x1, x0, time)
    sigma = path.coefficients(time).sigma
    # alpha is 0.007 and sigma 0.008 at worst, so up to 4 of 16 digits cancel.
    near = {"rtol": 1e-9, "atol": 1e-9}
    torch.testing.assert_close(score(path, v, x, time), -x0 / sigma, **near)
    torch.testing.assert_close(data(path, v, x, time), x1, **near)


@given(t=inner_times, v=values, x=values)
@settings(max_examples=60, deadline=None)
def test_linear_score_is_the_printed_formula(t, v, x):
    found = score(LinearPath(), *(torch.tensor(each, **float64) for each in (v, x, t)))
    assert float(found) == pytest.approx((t * v - x) / (1 - t), rel=1e-9, abs=1e-9)


@pytest.mark.parametrize("t", [0.1, 0.5, 0.9])
def test_conversions_of_the_exact_velocity_are_conditional_expectations(gaussian, t):
    path, x, time = get_path(gaussian.path), torch.linspace(-3, 3, 13, **float64), torch.tensor(t, **float64)
    v, _ = gaussian.velocity(x, time)
    mean, variance = gaussian.moments(t)
    torch.testing.assert_close(score(path, v, x, time), -(x - mean) / variance)
    gain = (mean / gaussian.mean) * gaussian.deviation**2 / variance
    torch.testing.assert_close(data(path, v, x, time), gaussian.mean + gain * (x - mean))


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(), (2,), (2, 3)])
def test_times_are_broadcast_to_the_right(name, shape):
    path, generator = get_path(name), torch.Generator().manual_seed(0)
    x1, x0 = torch.randn(2, 2, 3, 4, 5, 5, generator=generator)
    t = torch.rand(shape, generator=generator)
    together = path.interpolate(x1, x0, t)
    for index in torch.cartesian_prod(torch.arange(2), torch.arange(3)).tolist():
        alone = path.interpolate(x1[tuple(index)], x0[tuple(index)], t[tuple(index[: len(shape)])])
        torch.testing.assert_close(together[tuple(index)], alone)


def test_linear_end_points_are_exact():
    path, x1, x0 = LinearPath(), torch.randn(3, 2), torch.randn(3, 2)
    assert torch.equal(path.interpolate(x1, x0, torch.ones(3)), x1)
    assert torch.equal(path.interpolate(x1, x0, torch.zeros(3)), x0)
    assert torch.equal(path.target_velocity(x1, x0, torch.rand(3)), x1 - x0)


@pytest.mark.parametrize("name", NAMES)
def test_targets_are_finite_up_to_the_last_training_time(name):
    path = get_path(name)
    t = torch.tensor([0.0, 0.5, path.last_time])
    assert path.target_velocity(torch.ones(3), torch.ones(3), t).isfinite().all()


def test_wrong_input():
    x, path = torch.zeros(2, 3), LinearPath()
    with pytest.raises(InputError, match="did you mean 'linear'"):
        get_path("liner")
    with pytest.raises(InputError, match="one shape"):
        path.interpolate(x, x[:1], torch.zeros(2))
    with pytest.raises(InputError, match=r"Times of shape \[3\]"):
        path.target_velocity(x, x, torch.zeros(3))
    with pytest.raises(InputError, match="floating"):
        path.target_velocity(x, x, torch.zeros(2, dtype=torch.int64))
