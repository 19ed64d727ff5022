"""Noising of sequences and single images."""

import pytest
import torch

from flowgression import InputError
from flowgression.flow import get_path, noise_images, noise_sequence
from flowgression.flow.sequence import NOISE_ORDERS, order_times

IMAGES = torch.randn(3, 4, 2, 5, 6, generator=torch.Generator().manual_seed(1))


def seeded(seed=0):
    return torch.Generator().manual_seed(seed)


@pytest.mark.parametrize("name", ["linear", "gvp", "vp"])
def test_given_times_and_noise_follow_the_path(name):
    path, x0 = get_path(name), torch.randn_like(IMAGES)
    t = torch.rand(3, 4).sort(dim=1).values
    noised = noise_sequence(IMAGES, t=t, x0=x0, path=path)
    for b in range(3):
        for s in range(4):
            c = path.coefficients(t[b, s])
            torch.testing.assert_close(noised.x_t[b, s], c.alpha * IMAGES[b, s] + c.sigma * x0[b, s])
            torch.testing.assert_close(noised.target[b, s], c.d_alpha * IMAGES[b, s] + c.d_sigma * x0[b, s])
    assert noised.t is t


def test_drawn_times_ascend_and_are_uniform_together():
    noised = noise_sequence(torch.zeros(4000, 5, 1, 1, 1), generator=seeded())
    assert (noised.t.diff(dim=1) >= 0).all()
    # Means of the k-th smallest of 5 uniform numbers are k / 6.
    torch.testing.assert_close(noised.t.mean(0), torch.arange(1, 6) / 6, rtol=0, atol=0.02)
    assert noised.t.min() >= 0
    assert noised.t.max() <= 1


@pytest.mark.parametrize("order", NOISE_ORDERS)
def test_every_order_has_uniform_times_and_is_what_it_says(order):
    t = noise_sequence(torch.zeros(4000, 5, 1, 1, 1), generator=seeded(), order=order).t
    steps = t.diff(dim=1)
    holds = {"falling": steps >= 0, "rising": steps <= 0, "random": steps.abs() > 0, "equal": steps == 0}
    assert holds[order].all()
    if order == "random":  # every image has the mean of all, up to 4 standard deviations of a mean of 4,000
        torch.testing.assert_close(t.mean(0), torch.full((5,), 0.5), rtol=0, atol=4 * (1 / 12 / 4000) ** 0.5)
    share = torch.histc(t, 10, 0, 1) / t.numel()
    independent = 4000 if order == "equal" else 20_000
    torch.testing.assert_close(share, torch.full((10,), 0.1), rtol=0, atol=4 * (0.09 / independent) ** 0.5)


def test_given_times_must_be_in_the_order():
    rising = torch.rand(3, 4).sort(dim=1, descending=True).values
    assert noise_sequence(IMAGES, t=rising, order="rising").t is rising
    for order in ("falling", "equal"):
        with pytest.raises(InputError, match=f"order of {order} noise"):
            noise_sequence(IMAGES, t=rising, order=order)
    with pytest.raises(InputError, match="did you mean 'falling'"):
        order_times(rising, "faling")


def test_drawn_noise_is_standard_normal_and_independent_between_images():
    noised = noise_sequence(torch.zeros(1000, 2, 1, 4, 4), generator=seeded())
    x0 = -noised.target
    assert float(x0.mean()) == pytest.approx(0, abs=0.03)
    assert float(x0.std()) == pytest.approx(1, abs=0.02)
    assert float((x0[:, 0] * x0[:, 1]).mean()) == pytest.approx(0, abs=0.03)


def test_the_generator_decides_everything():
    first, again, other = (noise_sequence(IMAGES, generator=seeded(s)) for s in (5, 5, 6))
    assert all(torch.equal(a, b) for a, b in zip(first, again, strict=True))
    assert not torch.equal(first.x_t, other.x_t)


def test_single_images_are_sequences_of_one():
    images = noise_images(IMAGES[:, 0], generator=seeded())
    sequence = noise_sequence(IMAGES[:, :1], generator=seeded())
    assert images.t.shape == (3,)
    for a, b in zip(images, sequence, strict=True):
        assert torch.equal(a, b[:, 0])


def test_vp_targets_stay_finite():
    noised = noise_images(torch.ones(1_000_000, 1, 1, 1), generator=seeded(), path=get_path("vp"))
    assert noised.target.isfinite().all()
    assert noised.target.abs().max() < 400  # sigma' = -50 at the last training time, times the largest noise
    assert noised.t.max() <= 1 - 1e-5 + 1e-7


@pytest.mark.parametrize(("dtype", "time"), [(torch.float64, torch.float64), (torch.bfloat16, torch.float32)])
def test_dtypes(dtype, time):
    noised = noise_sequence(IMAGES.to(dtype))
    assert (noised.x_t.dtype, noised.target.dtype, noised.t.dtype) == (dtype, dtype, time)


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_a_cpu_generator_gives_the_same_on_a_gpu():
    there, here = noise_sequence(IMAGES.cuda(), generator=seeded()), noise_sequence(IMAGES, generator=seeded())
    for a, b in zip(there, here, strict=True):
        torch.testing.assert_close(a.cpu(), b)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda: noise_sequence(IMAGES[0]), r"\[B, S, C, H, W\]"),
        (lambda: noise_sequence(IMAGES[:, :0]), "non-empty"),
        (lambda: noise_sequence(IMAGES.to(torch.uint8)), "floating"),
        (lambda: noise_sequence(IMAGES, t=torch.zeros(3)), "t must have shape"),
        (lambda: noise_sequence(IMAGES, t=torch.linspace(1, 0, 4).expand(3, 4)), "ascend"),
        (lambda: noise_sequence(IMAGES, x0=IMAGES[:1]), "one shape"),
        (lambda: noise_images(IMAGES), r"\[B, C, H, W\]"),
        (lambda: noise_images(IMAGES[0], t=torch.zeros(3)), "t must have shape"),
    ],
)
def test_wrong_input(call, message):
    with pytest.raises(InputError, match=message):
        call()
