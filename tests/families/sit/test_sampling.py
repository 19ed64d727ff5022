"""The SiT sampler against the released samples, and what differs from ARFlow's."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression.families.sit.released import load_released
from flowgression.families.sit.sampling import sample
from tests.families.golden import Golden

LABELS = torch.tensor([1, 5, 1])


@pytest.fixture
def z() -> Tensor:
    return torch.randn(3, 1, 6, 4, generator=torch.Generator().manual_seed(1))


def test_released_euler_sample() -> None:
    golden = Golden("sit_dev")
    output = sample(
        load_released(golden.weights(), num_heads=4, num_classes=10), golden["x"], golden["y"], num_inference_steps=10
    )
    torch.testing.assert_close(output.sample, golden["euler10"], atol=5e-6, rtol=0)


def test_released_guided_velocity() -> None:
    """One Euler step from any time gives the velocity back."""
    golden = Golden("sit_dev")
    model = load_released(golden.weights(), num_heads=4, num_classes=10)
    for row, t in enumerate(golden["t"].tolist()):
        x = golden["x"][row : row + 1]
        end = t + 0.25 if t < 0.75 else t - 0.25
        output = sample(model, x, golden["y"][row : row + 1], times=[t, end], guidance_scale=1.5, guided_channels=3)
        torch.testing.assert_close((output.sample - x)[0] / (end - t), golden["v_cfg"][row], atol=1e-5, rtol=0)


def test_outside_the_interval_only_the_class_half_runs(make_model: Callable[..., Any], z: Tensor) -> None:
    model, rows = make_model("sit"), []
    model.register_forward_pre_hook(lambda module, _, inputs: rows.append(len(inputs["prepared"])), with_kwargs=True)
    sample(model, z, LABELS, num_inference_steps=5, guidance_scale=2.0, guidance_interval=(0.35, 0.65))
    assert rows == [3, 3, 6, 6, 3]


def test_dopri5_agrees_with_many_heun_steps(make_model: Callable[..., Any], z: Tensor) -> None:
    model = make_model("sit").double()
    adaptive = sample(model, z.double(), LABELS, solver="dopri5", guidance_scale=1.5, rtol=1e-6, atol=1e-6)
    heun = sample(model, z.double(), LABELS, solver="heun", num_inference_steps=40, guidance_scale=1.5)
    assert adaptive.sample.dtype == torch.float64
    torch.testing.assert_close(adaptive.sample, heun.sample, atol=1e-3, rtol=0)


def test_path_of_the_sde_by_name(make_model: Callable[..., Any], z: Tensor) -> None:
    noise = torch.randn(5, *z.shape, generator=torch.Generator().manual_seed(2))
    linear, gvp = (
        sample(make_model("sit"), z, LABELS, solver="sde", num_inference_steps=6, noise=noise, path=path).sample
        for path in ("linear", "gvp")
    )
    assert (linear - gvp).abs().max() > 1e-3
