"""FlowAR whose head predicts average velocities: what it is trained on, and one call for a whole interval."""

from itertools import pairwise
from typing import Any

import pytest
import torch
from torch import Tensor

from flowgression import FlowAR, InputError
from flowgression.families.flowar.average import Rows, _prediction, flowar_average_objective, taught_velocity
from flowgression.families.flowar.export import exported
from flowgression.families.flowar.sampling import noise_shapes, sample
from flowgression.families.flowar.scales import per_token, to_map
from flowgression.families.flowar.training import flowar_losses
from flowgression.flow.average import along_path
from flowgression.training.randomness import StepRandomness
from flowgression.training.settings import MeanFlowConfig

ATTENTIONS: dict[str, dict[str, Any]] = {
    "exact": {},
    "bounded": {"attention": "bounded"},
    "low rank": {"attention": "lowrank"},
    "cross": {"cross_attention": True},
}
SIZES = {"sample_size": 8, "in_channels": 1, "patch_size": 2, "num_classes": 3}
WIDTHS = {"hidden_size": 16, "encoder_depth": 1, "decoder_depth": 1, "num_heads": 2}
HEAD = {"flow_width": 16, "flow_depth": 2, "flow_num_heads": 2}
SCALES, LENGTHS = (1, 2, 4), [1, 4, 16]


def make(**args: Any) -> FlowAR:
    """A small model whose every weight counts."""
    torch.manual_seed(0)
    model = FlowAR(**{**SIZES, **WIDTHS, **HEAD, "average_velocity": True, **args})
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    return model


def numbers(*shape: int, seed: int = 1) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_derivative_is_that_of_two_reverse_passes(attention: str) -> None:
    head = make(**ATTENTIONS[attention]).double().flow_head
    x, v, semantics = numbers(3, 21, 4).double(), numbers(3, 21, 4, seed=2).double(), numbers(3, 21, 16).double()
    t, r = torch.tensor([0.1, 0.4, 0.8]).double()[:, None].expand(3, 3), torch.tensor([0.4, 0.9, 1.0]).double()

    def call(x: Tensor, t: Tensor) -> tuple[Tensor, None]:
        return head(x, t, semantics, sides=SCALES, r=r.expand(3, 3)), None

    found = along_path(call, x, t, v)
    with torch.nn.attention.sdpa_kernel(torch.nn.attention.SDPBackend.MATH):
        output, expected = torch.autograd.functional.jvp(
            lambda x, t: call(x, t)[0], (x, t.contiguous()), (v, torch.ones_like(t))
        )
    # Sinusoids of the time are float32 wherever they are computed, of thousandths here: their derivative too.
    torch.testing.assert_close(found.derivative, expected, rtol=1e-4, atol=1e-4 * expected.abs().max().item())
    torch.testing.assert_close(found.average, output, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("spans", [False, True])
def test_without_an_interval_or_guidance_it_is_flow_matching(spans: bool) -> None:
    model, images, labels = make(), numbers(2, 1, 8, 8), torch.tensor([0, 3])
    t, noise = torch.tensor([[0.25, 0.5, 0.75]]).expand(2, 3), numbers(2, 21, 4)
    losses, _ = flowar_losses(model, images, labels, t, noise)
    output = model(images, labels)
    data, times = torch.cat(output.targets, 1), per_token(t, LENGTHS)[..., None]
    semantics = torch.cat(output.semantics, 1)
    rows = Rows(times * data + (1 - times) * noise, data - noise, t, t, semantics, None, labels != 3)
    found, target = _prediction(model, rows, LENGTHS, torch.ones(1, 21, 1), spans=spans, taught=False)
    errors = (found - target).square().mean(-1).split(LENGTHS, dim=1)
    torch.testing.assert_close(torch.stack([each.mean(1) for each in errors], 1), losses, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("attention", ATTENTIONS)
def test_the_objective_reaches_every_weight(attention: str) -> None:
    model, teacher = make(class_dropout_prob=0.3, **ATTENTIONS[attention]), make(average_velocity=False)
    for settings in (MeanFlowConfig(guidance_scale=1.5), MeanFlowConfig(guidance_scale=1.5, teacher=True)):
        model.zero_grad(set_to_none=True)
        given = {"teacher": teacher} if settings.teacher else {}
        labels = torch.arange(6) % 3
        output = flowar_average_objective(model, numbers(6, 1, 8, 8), labels, StepRandomness(0, 0), settings, **given)
        output.loss.backward()
        assert set(output.metrics) == {"loss_scale_1", "loss_scale_2", "loss_scale_4"}
        assert not [name for name, parameter in model.named_parameters() if parameter.grad is None]
        assert all(parameter.grad.isfinite().all() for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in teacher.parameters())


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_call_crosses_its_whole_interval(steps: int) -> None:
    """At every scale; and without guidance a step is one call of the head for each scale."""
    model, labels = make(), torch.tensor([0, 2])
    noise = [numbers(*shape) for shape in noise_shapes(model, 2)]
    found = sample(model, labels, noise=noise, num_inference_steps=steps)
    assert found.num_calls == 3 * steps
    maps: list[Tensor] = []
    with torch.no_grad():
        for k in range(3):
            semantics, x = model.semantics(maps, labels)[-1], noise[k]
            for t, r in pairwise(torch.linspace(0, 1, steps + 1)):
                x = x + (r - t) * model.flow_head(x, t.expand(2), semantics, r=r.expand(2))
            maps.append(to_map(x, 2))
    torch.testing.assert_close(found.sample, maps[-1], rtol=1e-4, atol=1e-5)
    heun = sample(model, labels, noise=noise, num_inference_steps=steps, solver="heun").sample
    assert (heun - found.sample).abs().max() > 1e-3  # which takes the velocity, not the average


def test_what_is_taught_is_the_guided_velocity_of_sampling() -> None:
    """Scale by scale as the sampler guides: the ramp from 1 to s, and no guidance where there is no label."""
    teacher, images, t = make(average_velocity=False), numbers(2, 1, 8, 8), torch.full((2, 3), 0.25)
    x, ramp = numbers(2, 21, 4, seed=2), torch.tensor([1.0, 1.75, 2.5])
    guidance = per_token(ramp[None], LENGTHS)[..., None]
    found = taught_velocity(teacher, images, torch.tensor([1, 3]), x, t, guidance)
    with torch.no_grad():
        v, null = (
            teacher.flow_head(x, t, torch.cat(teacher(images, torch.tensor(labels)).semantics, 1), sides=SCALES)
            for labels in ([1, 3], [3, 3])
        )
    torch.testing.assert_close(found[0], (null + guidance * (v - null))[0])
    torch.testing.assert_close(found[1], v[1])


def test_what_cannot_be_is_refused() -> None:
    model = make(average_velocity=False)
    with pytest.raises(InputError, match="average_velocity=False"):
        model.flow_head(numbers(1, 16, 4), torch.zeros(1), numbers(1, 16, 16), r=torch.ones(1))
    with pytest.raises(InputError, match="no end of an interval"):
        exported(make())
    settings = MeanFlowConfig(guidance_scale=2.0)
    with pytest.raises(InputError, match="needs a null label"):
        flowar_average_objective(
            make(class_dropout_prob=0.0), numbers(1, 1, 8, 8), torch.tensor([0]), StepRandomness(0, 0), settings
        )
