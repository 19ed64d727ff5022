"""HOFAR: two heads, what each learns, and the step that uses both."""

import math

import pytest
import torch

from flowgression import HOFAR
from flowgression.families.flowar.sampling import noise_shapes, sample
from flowgression.families.hofar.presets import PRESETS
from flowgression.flow import get_path
from tests.families.cases import FAMILY_CASES


def test_one_taylor_step_by_hand() -> None:
    model = FAMILY_CASES["hofar"].model(scales=[4], path="gvp")
    labels = torch.tensor([1, 2])
    noise = [torch.randn(shape, generator=torch.Generator().manual_seed(0)) for shape in noise_shapes(model, 2)]
    with torch.no_grad():
        semantics = model.semantics([], labels)[0]
        v, a = (head(noise[0], torch.zeros(2), semantics) for head in model.flow_heads)
    drawn = sample(model, labels, noise=noise, num_inference_steps=1, solver="taylor")
    expected = noise[0] + v + a / 2
    assert (a.abs().max()) > 1e-2
    torch.testing.assert_close(drawn.sample.flatten(2).sum(2), _maps(expected).flatten(2).sum(2), atol=1e-4, rtol=0)
    assert drawn.num_calls == 1


def _maps(tokens: torch.Tensor) -> torch.Tensor:
    from flowgression.families.flowar.scales import to_map

    return to_map(tokens, 4)


def test_acceleration_on_the_trigonometric_path_is_known() -> None:
    x1, x0, t = torch.randn(5, 3), torch.randn(5, 3), torch.rand(5)
    path = get_path("gvp")
    expected = -((math.pi / 2) ** 2) * path.interpolate(x1, x0, t)
    torch.testing.assert_close(path.target_acceleration(x1, x0, t), expected)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_has_about_the_parameters_of_its_sibling(name: str) -> None:
    from flowgression import FlowAR

    with torch.device("meta"):
        counts = [sum(p.numel() for p in kind.from_preset(name).parameters()) for kind in (FlowAR, HOFAR)]
    assert counts[1] == pytest.approx(counts[0], rel=0.05)
