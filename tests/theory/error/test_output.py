"""Three figures for the difference of two images: the bound is never below the measured one, the estimate is close."""

import copy

import pytest
import torch
from torch import Tensor

from flowgression import FlowAR
from flowgression.families.flowar.probe import attention_names
from flowgression.families.flowar.sampling import noise_shapes, sample
from flowgression.layers.gated_mlp import GatedMlp
from flowgression.theory.error.bound import bound_output
from flowgression.theory.error.estimate import estimate_output
from flowgression.theory.error.polynomial import LayerPolynomial
from tests.families.flowar.cases import small_model

CASES = [
    ("six", {"attention": "bounded", "attention_max_tau": 1.0}),
    ("patches", {"attention": "bounded", "cross_attention": True}),
    ("powers", {}),
    ("one scale", {"attention": "bounded", "attention_unit_values": False}),
]


def wide(case: str, overrides: dict) -> FlowAR:
    return small_model(case, num_heads=4, flow_num_heads=4, **overrides).double()


def starting_point(model: FlowAR, seed: int, count: int = 2) -> tuple[Tensor, list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    noise = [torch.randn(shape, generator=generator, dtype=torch.float64) for shape in noise_shapes(model, count)]
    return torch.randint(model.config.num_classes, (count,), generator=generator), noise


@pytest.mark.parametrize(("case", "overrides"), CASES)
@pytest.mark.parametrize("guidance_scale", [1.0, 2.0])
def test_without_polynomials_the_walk_is_the_sampler(case: str, overrides: dict, guidance_scale: float) -> None:
    model = wide(case, overrides)
    labels, noise = starting_point(model, 0)
    options = {"num_inference_steps": 2, "guidance_scale": guidance_scale}
    found = bound_output(model, {}, labels, noise, **options)
    expected = sample(model, labels, noise=noise, **options).sample
    assert (found.bound > 0).all()  # what float64 loses
    torch.testing.assert_close(found.sample, expected, rtol=0, atol=1e-5, check_dtype=False)


def random_model(seed: int) -> FlowAR:
    """A tiny bounded FlowAR with weights of a random size, so that bounds range from tiny to useless."""
    generator = torch.Generator().manual_seed(seed)
    size = 0.02 * 10 ** torch.rand((), generator=generator).item()
    model = FlowAR(
        sample_size=2, in_channels=1, scales=(1, 2), num_classes=2, hidden_size=8, encoder_depth=1, decoder_depth=1,
        num_heads=2, flow_width=8, flow_depth=1, flow_num_heads=2, attention="bounded", attention_max_tau=2.0,
        cross_attention=seed % 3 == 0,
    ).double().eval()  # fmt: skip
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.copy_(size * torch.randn(parameter.shape, generator=generator))
    return model


def check_bound(seed: int) -> float:
    """The ratio of bound and measured difference of one random case."""
    model = random_model(seed)
    labels, noise = starting_point(model, seed, count=1)
    degree = (2, 4)[seed % 2]
    one_for_all = LayerPolynomial(degree, 2.0) if seed % 5 else LayerPolynomial((4, degree), (2.0, 2.5))
    polynomials = dict.fromkeys(attention_names(model), one_for_all)
    options = {"num_inference_steps": 1 + seed % 2, "guidance_scale": (1.0, 1.5)[seed // 2 % 2]}
    bounded = bound_output(model, polynomials, labels, noise, **options)
    exact = bound_output(model, {}, labels, noise, **options)  # itself off by rounding, and by no more than it says
    difference = (bounded.sample - exact.sample).norm(dim=1)
    assert not bounded.outside
    assert (difference <= bounded.bound + exact.bound).all(), seed
    return (bounded.bound.max() / difference.max().clamp(min=1e-300)).item()


def test_the_bound_is_never_below_the_measured_difference() -> None:
    ratios = [check_bound(seed) for seed in range(12)]
    assert min(ratios) < 1e6  # and it is no empty promise: in small models it is of some use


@pytest.mark.slow
def test_the_bound_is_never_below_the_measured_difference_in_many_cases() -> None:
    for seed in range(12, 10_012):
        check_bound(seed)


@pytest.mark.parametrize(("case", "overrides"), CASES[:2])
def test_the_estimate_is_right_to_first_order(case: str, overrides: dict) -> None:
    """Its own error is of second order: at an error of 1e-4 it has three digits."""
    model = wide(case, overrides)
    labels, noise = starting_point(model, 1)
    bound = model.flow_head.blocks[0].attn.attention.max_tau
    polynomials = {name: LayerPolynomial(4, bound) for name in attention_names(model)}
    options = {"num_inference_steps": 2, "guidance_scale": 1.5}
    exact = bound_output(model, {}, labels, noise, **options).sample
    difference = bound_output(model, polynomials, labels, noise, **options).sample - exact
    separate = estimate_output(model, polynomials, labels, noise, **options)
    together = estimate_output(model, polynomials, labels, noise, together=True, **options)
    largest = difference.abs().max()
    assert (separate.difference - difference).abs().max() < 0.03 * largest
    torch.testing.assert_close(separate.difference, together.difference, rtol=1e-4, atol=1e-6 * largest.item())
    assert set(separate.shares()) == set(polynomials)
    assert sum(separate.shares().values()) >= separate.difference.abs().max()


def test_a_logit_outside_of_the_interval_is_told() -> None:
    model = wide("powers", {})
    labels, noise = starting_point(model, 2)
    narrow = {"encoder_blocks.0.attn": LayerPolynomial(4, 0.01)}
    found = bound_output(model, narrow, labels, noise, num_inference_steps=1, guidance_scale=1.0)
    assert found.outside == set(narrow)
    exact = bound_output(model, {}, labels, noise, num_inference_steps=1, guidance_scale=1.0)
    assert ((found.sample - exact.sample).norm(dim=1) <= found.bound + exact.bound).all()


def equal_model(model: FlowAR, generator: torch.Generator) -> FlowAR:
    """The same function in exact arithmetic: the hidden values of every MLP in another order."""
    model = copy.deepcopy(model)
    for module in model.modules():
        if isinstance(module, GatedMlp):
            order = torch.randperm(module.gate.out_features, generator=generator)
            for layer in (module.gate, module.value):
                layer.weight.data, layer.bias.data = layer.weight.data[order], layer.bias.data[order]
            module.out.weight.data = module.out.weight.data[:, order].contiguous()
    return model


def test_models_that_are_equal_but_for_rounding_lie_within_their_bounds() -> None:
    """No polynomial at all: what is left is rounding, which was counted as 0 once."""
    for seed in range(6):
        model = random_model(seed)
        labels, noise = starting_point(model, seed, count=1)
        options = {"num_inference_steps": 2, "guidance_scale": 1.5}
        one = bound_output(model, {}, labels, noise, **options)
        other = bound_output(equal_model(model, torch.Generator().manual_seed(seed)), {}, labels, noise, **options)
        difference = (one.sample - other.sample).norm(dim=1)
        assert (difference <= one.bound + other.bound).all()
        assert (one.bound > 0).all()  # the difference is 0 where a processor adds in the same order after all
