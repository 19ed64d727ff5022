"""Euler-Maruyama: orders and marginals against Gaussian data, last steps against the written-out formulas."""

from dataclasses import replace

import pytest
import torch

from flowgression import InputError
from flowgression.flow import (
    LinearPath,
    diffusion_coefficient,
    euler,
    euler_maruyama,
    get_path,
    get_solver,
    sde_times,
    uniform_times,
)
from flowgression.flow.diffusion import DIFFUSIONS

float64 = {"dtype": torch.float64}


def exact_moments(gaussian, times, **options):
    """Mean and variance of the solver's output over all noises, without drawing any.

    For Gaussian data every step is affine, so the output is A x + sum_k B_k noise_k + c. Element 0 of the batch gives
    c, element 1 gives A + c, element 2 + k gives B_k + c.
    """
    n = len(times) - 1
    batch = torch.zeros(n + 2, **float64)
    batch[1] = 1
    noise = torch.cat((torch.zeros(n, 2, **float64), torch.eye(n, **float64)), dim=1)
    path = get_path(gaussian.path)
    out = euler_maruyama(gaussian.velocity, batch, times, noise=noise, path=path, **options).sample
    slopes = out[1:] - out[0]
    mean, variance = gaussian.moments(float(times[0]))
    return float(slopes[0] * mean + out[0]), float(slopes[0] ** 2 * variance + slopes[1:].square().sum())


def grid_for(diffusion, n):
    # "sbdm" is infinite at t = 0 and stiff near it.
    return sde_times(n, 0.0, start=0.05 if diffusion == "sbdm" else 0.0, **float64)


@pytest.mark.parametrize("diffusion", DIFFUSIONS)
@pytest.mark.parametrize("norm", [1.0, 0.3])
def test_every_diffusion_keeps_the_distribution_and_has_weak_order_one(gaussian, diffusion, norm, observed_order):
    # With this deviation no leading term of the error vanishes by chance, so the order can be seen.
    gaussian = replace(gaussian, deviation=1.2)
    errors = []
    for n in (200, 400):
        times = grid_for(diffusion, n)
        options = {"diffusion": diffusion, "diffusion_norm": norm, "last_step": None}
        mean, variance = exact_moments(gaussian, times, **options)
        errors.append(abs(mean - gaussian.mean) + abs(variance - gaussian.deviation**2))
    assert errors[-1] < 0.02
    assert observed_order(errors) == pytest.approx(1, abs=0.2)


def test_drawn_samples_have_the_moments_of_the_data(gaussian):
    generator, count = torch.Generator().manual_seed(3), 20_000
    mean, variance = gaussian.moments(0.0)
    x = mean + variance**0.5 * torch.randn(count, generator=generator, **float64)
    output = euler_maruyama(
        gaussian.velocity,
        x,
        sde_times(100),
        noise=lambda step: torch.randn(count, generator=generator, **float64),
        path=get_path(gaussian.path),
    )
    # 5 standard errors and the bias of the steps.
    assert float(output.sample.mean()) == pytest.approx(gaussian.mean, abs=5 * 0.5 / count**0.5 + 0.01)
    assert float(output.sample.std()) == pytest.approx(gaussian.deviation, rel=0.06)


def test_strong_order_one_for_additive_noise(gaussian, observed_order):
    fine_steps, count = 1024, 64
    generator = torch.Generator().manual_seed(0)
    increments = torch.randn(fine_steps, count, generator=generator, **float64)
    x = torch.randn(count, generator=generator, **float64)

    def solve(n):
        # The same Brownian motion at every resolution: sums of fine increments, rescaled to variance 1.
        noise = increments.reshape(n, fine_steps // n, count).sum(1) * (n / fine_steps) ** 0.5
        times = uniform_times(n, **float64)
        path = get_path(gaussian.path)
        return euler_maruyama(
            gaussian.velocity, x, times, noise=noise, path=path, diffusion="linear", last_step=None
        ).sample

    reference = solve(fine_steps)
    errors = [float((solve(n) - reference).abs().mean()) for n in (32, 64)]
    assert observed_order(errors) == pytest.approx(1, abs=0.25)


def wavy(x, t, state):
    """A velocity that is no closed form of anything."""
    return torch.sin(3 * x) + t, (state or 0) + 1


@pytest.mark.parametrize("last_step", ["mean", "euler", "tweedie", None])
@pytest.mark.parametrize("diffusion", ["sigma", "linear", "constant", "decreasing", "increasing-decreasing"])
def test_equals_the_formulas_step_by_step(last_step, diffusion):
    times, noise = sde_times(6, 0.1, **float64), torch.randn(5, 7, **float64)
    x = torch.randn(7, **float64)
    output = euler_maruyama(wavy, x, times, noise=noise, diffusion=diffusion, last_step=last_step, last_step_size=0.1)

    for step in range(5):
        t, dt = times[step], times[step + 1] - times[step]
        v, _ = wavy(x, t, None)
        score, w = (t * v - x) / (1 - t), diffusion_coefficient(diffusion, t, LinearPath())
        x = x + (v + w * score) * dt + torch.sqrt(2 * w * dt) * noise[step]
    t = times[-1]
    v, _ = wavy(x, t, None)
    score, w = (t * v - x) / (1 - t), diffusion_coefficient(diffusion, t, LinearPath())
    expected = {
        "mean": x + (v + w * score) * 0.1,
        "euler": x + v * 0.1,
        "tweedie": x / t + (1 - t) ** 2 / t * score,
        None: x,
    }[last_step]
    torch.testing.assert_close(output.sample, expected, rtol=1e-10, atol=1e-10)
    assert output.state == output.num_calls == (5 if last_step is None else 6)


@pytest.mark.parametrize("name", ["linear", "gvp", "vp"])
@pytest.mark.parametrize("diffusion", DIFFUSIONS)
def test_diffusions_at_known_points(name, diffusion):
    path, t = get_path(name), torch.tensor([0.25, 0.5], **float64)
    half = 2**-0.5
    # sbdm: (alpha' / alpha) sigma^2 - sigma sigma'; for VP half of beta(t).
    sigma = {"linear": [0.75, 0.5], "gvp": [None, half], "vp": [None, None]}[name]
    sbdm = {"linear": [3.0, 1.0], "gvp": [None, torch.pi / 2], "vp": [(0.1 + 0.75 * 19.9) / 2, (0.1 + 0.5 * 19.9) / 2]}
    expected = {
        "sigma": sigma,
        "linear": [0.75, 0.5],
        "constant": [1.0, 1.0],
        "decreasing": [0.25 * (half + 1) ** 2, 0.25],
        "increasing-decreasing": [0.5, 1.0],
        "sbdm": sbdm[name],
    }[diffusion]
    for got, want in zip(diffusion_coefficient(diffusion, t, path).tolist(), expected, strict=True):
        assert want is None or got == pytest.approx(want)
    if diffusion != "decreasing":
        doubled = diffusion_coefficient(diffusion, t, path, 2.0)
        torch.testing.assert_close(doubled, 2 * diffusion_coefficient(diffusion, t, path))


@pytest.mark.parametrize(("name", "start"), [("linear", 0.01), ("gvp", 0.01), ("vp", 0.0)])
def test_sbdm_starts_at_pure_noise_where_it_is_finite(name, start):
    """As the released transport, which starts at t = 0 on the vp path."""
    solver, options = get_solver("sde"), {"diffusion": "sbdm", "path": get_path(name)}
    grid = solver.grid(5, None, options)
    assert grid[0] == pytest.approx(start)
    drawn = solver.integrate(wavy, torch.ones(2, **float64), grid, noise=torch.ones(4, 2), **options)
    assert drawn.sample.isfinite().all()


def test_without_diffusion_it_is_euler():
    x, times = torch.randn(5, **float64), sde_times(8, **float64)
    noise = torch.full((7, 5), 1e6, **float64)
    output = euler_maruyama(wavy, x, times, noise=noise, diffusion_norm=0.0)
    whole = torch.cat((times, torch.ones(1, **float64)))
    torch.testing.assert_close(output.sample, euler(wavy, x, whole).sample)


def test_noise_as_function_list_or_tensor():
    x, times = torch.randn(4), sde_times(6)
    noise = torch.randn(5, 4)
    asked = []

    def draw(step):
        asked.append(step)
        return noise[step]

    results = [euler_maruyama(wavy, x, times, noise=n).sample for n in (draw, list(noise), noise, noise.double())]
    assert asked == [0, 1, 2, 3, 4]
    assert all(torch.equal(result, results[0]) for result in results)


def test_callback_and_untouched_input():
    x, seen = torch.ones(2), []
    kept = x.clone()
    noise = torch.ones(2, 2)
    output = euler_maruyama(wavy, x, sde_times(3), noise=noise, callback=lambda *a: seen.append(a))
    assert [step for step, _, _ in seen] == [0, 1, 2]
    assert [t for _, t, _ in seen] == pytest.approx([0.48, 0.96, 1.0])
    assert seen[-1][2] is output.sample
    assert torch.equal(x, kept)
    assert torch.equal(noise, torch.ones(2, 2))


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_sample_keeps_its_dtype(dtype):
    x = torch.ones(2, dtype=dtype)
    assert euler_maruyama(wavy, x, sde_times(3), noise=torch.ones(2, 2)).sample.dtype == dtype


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"diffusion": "sigmma"}, "did you mean 'sigma'"),
        ({"diffusion_norm": -1.0}, "diffusion_norm"),
        ({"diffusion_norm": float("nan")}, "diffusion_norm"),
        ({"last_step": "men"}, "did you mean 'mean'"),
        ({"last_step_size": 0.1}, "does not end at 1"),
        ({"diffusion": "sbdm"}, "infinite at t = 0"),
        ({"times": [0.0, 0.3, 1.0], "last_step": None, "noise": [torch.zeros(2)]}, "need as many noises, not 1"),
        ({"times": [0.0, 0.5, 1.0], "last_step_size": 0.0}, "infinite at t = 1"),
        ({"times": [0.96, 0.5, 0.0]}, "rise from noise to data"),
        ({"times": [0.0, 0.5, 1.5]}, "rise from noise to data"),
        ({"noise": None}, "noise must be"),
        ({"noise": torch.zeros(2, 3)}, "shape of the sample"),
        ({"noise": lambda step: torch.zeros(1)}, "shape of the sample"),
    ],
)
def test_wrong_input(change, message):
    arguments = {"times": sde_times(3), "noise": torch.zeros(2, 2), **change}
    with pytest.raises(InputError, match=message):
        euler_maruyama(wavy, torch.zeros(2), **arguments)
