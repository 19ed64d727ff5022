"""Average velocities in closed form: of a linear flow, whose trajectories are exponentials."""

import pytest
import torch
from torch import Tensor

from flowgression.flow.average import adaptive_loss, along_path, average_target

RATE = 1.7
T, R = (torch.tensor(each, dtype=torch.float64) for each in ([0.0, 0.3, 0.5, 0.9], [1.0, 0.35, 0.5 + 1e-6, 0.95]))


def points() -> Tensor:
    return torch.randn(4, 2, 3, generator=torch.Generator().manual_seed(0), dtype=torch.float64)


def average(x: Tensor, t: Tensor) -> tuple[Tensor, None]:
    """Of dx/dt = RATE x from t to R: x_r = exp(RATE (r - t)) x."""
    interval = (R - t)[:, None, None]
    return x * torch.expm1(RATE * interval) / interval, None


def test_an_average_is_the_velocity_and_its_own_derivative() -> None:
    """u = v + (r - t) du/dt, so the target of the true average is itself."""
    x = points()
    found = along_path(average, x, T, RATE * x)
    torch.testing.assert_close(average_target(RATE * x, found.derivative, T, R), found.average, rtol=1e-9, atol=0)
    torch.testing.assert_close(x + (R - T)[:, None, None] * found.average, x * torch.exp(RATE * (R - T))[:, None, None])


def test_the_derivative_along_another_velocity_is_another() -> None:
    x = points()
    found = along_path(average, x, T, -RATE * x)
    target = average_target(RATE * x, found.derivative, T, R)
    assert (target - found.average).abs().max() > 0.1


def test_gradients_go_through_the_average_and_what_else_the_call_gives_and_not_through_the_derivative() -> None:
    weight = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    x = points()

    def call(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        return weight * x * t[:, None, None], [weight * x, x]

    found = along_path(call, x, T, x)
    assert not found.derivative.requires_grad
    assert not average_target(weight * x, found.derivative, T, R).requires_grad
    (by_average,) = torch.autograd.grad(found.average.sum(), weight, retain_graph=True)
    torch.testing.assert_close(by_average, (x * T[:, None, None]).sum())
    (by_state,) = torch.autograd.grad(found.state[0].sum(), weight)
    torch.testing.assert_close(by_state, x.sum())


@pytest.mark.parametrize("state", [None, [None, None], {"a": torch.ones(2), "b": (torch.zeros(1),)}])
def test_what_else_the_call_gives_comes_back_as_it_is(state: object) -> None:
    found = along_path(lambda x, t: (x, state), points(), T, points()).state
    assert type(found) is type(state)
    assert str(found) == str(state)


def test_large_errors_do_not_drown_small_ones() -> None:
    error = torch.tensor([1e-3, 1e3], requires_grad=True)
    adaptive_loss(error).backward()
    small, large = error.grad.tolist()  # type: ignore[union-attr]
    assert small == pytest.approx(1 / (2 * 0.011))
    assert large == pytest.approx(1 / (2 * 1000.01))
