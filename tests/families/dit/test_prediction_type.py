"""Networks that predict the image: their velocity is that of the path, exact in every way of calling, and trains."""

from collections.abc import Callable
from typing import Any

import pytest
import torch

from flowgression import ARFlow, InputError, SiT
from flowgression.circuits import read_dit
from flowgression.families.dit.model import LEAST_SIGMA
from flowgression.families.sit.sampling import sample
from flowgression.families.sit.training import sit_objective
from flowgression.flow import get_path
from flowgression.flow.paths import PATHS
from flowgression.training.randomness import StepRandomness
from tests.families.cases import FAMILY_CASES

GENERATOR = torch.Generator().manual_seed(3)


def pair(family: str, **args: Any) -> tuple[Any, Any]:
    """A model that predicts images and one with its weights that calls the same numbers velocities, in float64."""
    data = FAMILY_CASES[family].model(prediction_type="sample", **args).double()
    velocity = FAMILY_CASES[family].model(**args).double()
    velocity.load_state_dict(data.state_dict())
    return data, velocity


def inputs(family: str, batch: int = 3) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    leading = (batch, 2) if family == "arflow" else (batch,)
    x = torch.randn(*leading, 1, 16, 16, dtype=torch.float64, generator=GENERATOR)
    t = torch.rand(leading, dtype=torch.float64, generator=GENERATOR).sort(-1).values * 0.98
    return x, t, torch.tensor([1, 9, 10][:batch])


@pytest.mark.parametrize("path", PATHS)
@pytest.mark.parametrize("family", ["sit", "arflow"])
def test_the_velocity_leads_to_the_predicted_image(family: str, path: str) -> None:
    model, same = pair(family, path=path)
    x, t, labels = inputs(family)
    with torch.no_grad():
        velocity, image = model(x, t, labels).velocity, same(x, t, labels).velocity
    a, b = (each[..., None, None, None] for each in get_path(path).data_coefficients(t))
    found = (velocity - b * x) / a
    assert torch.allclose(found, image, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("family", ["sit", "arflow"])
def test_prepared_rows_give_the_same_also_for_two_conditions_of_one_image(family: str) -> None:
    model, _ = pair(family, refine_width=2)
    x, _, labels = inputs(family)
    x = x[:, :1] if family == "arflow" else x
    both = torch.cat([labels, torch.full_like(labels, 10)])
    t = torch.tensor([0.3], dtype=torch.float64)
    with torch.no_grad():
        prepared = model(x, prepared=model.prepare(t, both)[0]).velocity
        twice = torch.cat([x, x])
        plain = model(twice, t.expand(twice.shape[:-3]), both).velocity
    assert torch.allclose(prepared, plain, rtol=1e-10, atol=1e-10)


def test_the_refinement_starts_as_nothing_and_sees_the_neighbours() -> None:
    """A pixel of one patch reaches the velocity of the next one only by the convolutions."""
    torch.manual_seed(0)
    plain, refined = (SiT(8, 4, 1, 16, 1, 2, prediction_type="sample", refine_width=width) for width in (0, 3))
    refined.load_state_dict(plain.state_dict(), strict=False)
    x, t = torch.randn(2, 1, 8, 8, generator=GENERATOR), torch.full((2,), 0.5)
    labels = torch.zeros(2, dtype=torch.int64)
    other = x.clone()
    other[..., 0, 4] += 1
    with torch.no_grad():
        assert torch.equal(plain(x, t, labels).velocity, refined(x, t, labels).velocity)
        torch.nn.init.normal_(refined.refine.outer.weight)
        # The blocks are the identity at the start and the last layer 0, so that patches do not see each other.
        reached = [(each(other, t, labels).velocity != each(x, t, labels).velocity)[0, 0] for each in (plain, refined)]
    assert [bool(pixels[0, 3]) for pixels in reached] == [False, True]


def test_nothing_is_infinite_at_the_data() -> None:
    model, _ = pair("sit")
    x, _, labels = inputs("sit")
    with torch.no_grad():
        velocity = model(x, torch.ones(3, dtype=torch.float64), labels).velocity
    assert velocity.abs().max() <= (x.abs().max() + 100) / LEAST_SIGMA


@pytest.mark.parametrize("steps", [1, 3, 8])
def test_a_network_that_knows_the_image_draws_it(steps: int) -> None:
    model, _ = pair("sit")
    torch.nn.init.zeros_(model.final_layer.linear.weight)
    image = torch.full((2, 1, 16, 16), model.final_layer.linear.bias[0].item(), dtype=torch.float64)
    torch.nn.init.constant_(model.final_layer.linear.bias, image[0, 0, 0, 0].item())
    z = torch.randn(2, 1, 16, 16, dtype=torch.float64, generator=GENERATOR)
    output = sample(model, z, torch.tensor([0, 1]), num_inference_steps=steps, guidance_scale=1.0)
    assert torch.allclose(output.sample, image, rtol=0, atol=1e-6)  # times are float32


def test_the_loss_is_that_of_the_paper() -> None:
    """||x1' - x1||^2 / max(1 - t, 0.05)^2 (arXiv 2511.13720, its velocity loss with both sides clamped)."""
    model, same = pair("sit", class_dropout_prob=0.0)
    model, same = model.float(), same.float()
    images = torch.rand(64, 1, 16, 16, generator=GENERATOR) * 2 - 1
    labels = torch.zeros(64, dtype=torch.int64)
    with torch.no_grad():
        loss = sit_objective(model, images, labels, StepRandomness(0, 0)).loss
        random = StepRandomness(0, 0)
        t = random.times((64,))
        noise = random.normal(images.shape)
        x = noise + t[:, None, None, None] * (images - noise)
        error = (same(x, t, labels).velocity - images).square().flatten(1).mean(1)
    expected = (error / (1 - t).clamp(min=0.05).square()).mean()
    assert t.max() > 0.95  # the clamp is met
    assert torch.allclose(loss, expected, rtol=1e-4)


def test_an_unknown_type_and_a_circuit_are_refused() -> None:
    with pytest.raises(InputError, match=r"prediction_type 'images' is unknown.*velocity.*sample"):
        SiT(16, 4, 1, 16, 1, 2, prediction_type="images")
    with pytest.raises(InputError, match="no circuit"):
        read_dit(FAMILY_CASES["sit"].model(prediction_type="sample"), [0, 0.5, 1])
    with pytest.raises(InputError, match="refine_width"):
        read_dit(FAMILY_CASES["sit"].model(refine_width=2), [0, 0.5, 1])
    with pytest.raises(InputError, match="refine_width is -1"):
        SiT(16, 4, 1, 16, 1, 2, refine_width=-1)


@pytest.mark.parametrize("model", [SiT, ARFlow])
def test_velocity_is_what_models_predict_by_default(model: Callable[..., Any]) -> None:
    assert model(16, 4, 1, 16, 1, 2).config.prediction_type == "velocity"
