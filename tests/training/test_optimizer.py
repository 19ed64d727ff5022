"""The optimiser, the schedule, clipping and the average against their formulas."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

from flowgression.training import EmaConfig, OptimizerConfig, ScheduleConfig
from flowgression.training.ema import Ema
from flowgression.training.optimizer import clip_gradients, learning_rate_factor, make_optimizer, set_learning_rate


def network() -> nn.Module:
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 2, 3), nn.Flatten(), nn.Linear(8, 3), nn.LayerNorm(3))


def test_matrices_decay_and_vectors_do_not() -> None:
    model = network()
    optimizer = make_optimizer(model, OptimizerConfig(weight_decay=0.02))
    decay = {p: group["weight_decay"] for group in optimizer.param_groups for p in group["params"]}
    assert {name: decay[p] for name, p in model.named_parameters()} == {
        "0.weight": 0.02,
        "0.bias": 0.0,
        "2.weight": 0.02,
        "2.bias": 0.0,
        "3.weight": 0.0,
        "3.bias": 0.0,
    }


def test_frozen_parameters_are_left_out() -> None:
    model = network()
    model[0].requires_grad_(False)
    optimizer = make_optimizer(model, OptimizerConfig())
    assert sum(len(group["params"]) for group in optimizer.param_groups) == 4


def test_two_steps_are_those_of_the_adamw_paper() -> None:
    config = OptimizerConfig(lr=0.1, beta1=0.9, beta2=0.95, weight_decay=0.5, eps=1e-8)
    weight = nn.Parameter(torch.tensor([[2.0]], dtype=torch.float64))
    model = nn.ParameterList([weight])
    optimizer = make_optimizer(model, config)
    expected, mean, square = 2.0, 0.0, 0.0
    for step, gradient in enumerate((3.0, -1.0), start=1):
        weight.grad = torch.full_like(weight, gradient)
        optimizer.step()
        mean = 0.9 * mean + 0.1 * gradient
        square = 0.95 * square + 0.05 * gradient**2
        expected *= 1 - 0.1 * 0.5
        expected -= 0.1 * (mean / (1 - 0.9**step)) / (math.sqrt(square / (1 - 0.95**step)) + 1e-8)
        assert weight.item() == pytest.approx(expected, rel=1e-12)


def test_the_cosine_warms_up_and_ends_where_it_should() -> None:
    config = ScheduleConfig(name="cosine", warmup_steps=4, final_factor=0.1)
    assert [learning_rate_factor(step, 14, config) for step in range(4)] == [0.25, 0.5, 0.75, 1.0]
    assert learning_rate_factor(4, 14, config) == 1.0
    assert learning_rate_factor(9, 14, config) == pytest.approx(0.55)
    assert learning_rate_factor(14, 14, config) == pytest.approx(0.1)


@given(
    step=st.integers(0, 10**7),
    max_steps=st.integers(1, 10**6),
    warmup=st.integers(0, 10**6),
    name=st.sampled_from(["constant", "cosine"]),
)
def test_the_factor_stays_between_nothing_and_one(step: int, max_steps: int, warmup: int, name: str) -> None:
    factor = learning_rate_factor(step, max_steps, ScheduleConfig(name=name, warmup_steps=warmup))
    assert 0.0 <= factor <= 1.0


def test_the_learning_rate_reaches_every_group() -> None:
    optimizer = make_optimizer(network(), OptimizerConfig(lr=1.0))
    set_learning_rate(optimizer, 0.25)
    assert [group["lr"] for group in optimizer.param_groups] == [0.25, 0.25]


def gradients(*values: list[float]) -> list[nn.Parameter]:
    parameters = [nn.Parameter(torch.zeros(len(entries))) for entries in values]
    for parameter, entries in zip(parameters, values, strict=True):
        parameter.grad = torch.tensor(entries)
    return [*parameters, nn.Parameter(torch.zeros(1))]  # the last one has no gradient


def test_clipping_by_norm_and_then_by_value() -> None:
    parameters = gradients([3.0, 0.0], [0.0, -4.0])
    norm = clip_gradients(parameters, OptimizerConfig(clip_norm=1.0, clip_value=0.7))
    assert norm.item() == pytest.approx(5.0)
    torch.testing.assert_close(parameters[0].grad, torch.tensor([0.6, 0.0]), atol=1e-5, rtol=0)
    torch.testing.assert_close(parameters[1].grad, torch.tensor([0.0, -0.7]), atol=1e-5, rtol=0)


def test_small_gradients_are_not_touched() -> None:
    parameters = gradients([0.3, -0.4])
    assert clip_gradients(parameters, OptimizerConfig(clip_norm=1.0, clip_value=3.0)).item() == pytest.approx(0.5)
    assert parameters[0].grad is not None
    assert parameters[0].grad.tolist() == pytest.approx([0.3, -0.4])


@pytest.mark.parametrize("bad", [float("nan"), float("inf")])
def test_the_norm_tells_of_entries_that_are_not_finite(bad: float) -> None:
    norm = clip_gradients(gradients([1.0, bad], [1.0]), OptimizerConfig(clip_norm=1.0, clip_value=1.0))
    assert not torch.isfinite(norm)


def test_the_average_follows_its_recursion() -> None:
    model = nn.ParameterList([nn.Parameter(torch.zeros(2))])
    ema = Ema(model, EmaConfig(decay=0.5, warmup=True))
    expected = 0.0
    for updates, decay in enumerate([1 / 10, 2 / 11, 3 / 12, 4 / 13]):
        assert ema.decay(updates) == pytest.approx(decay)
        with torch.no_grad():
            model[0].fill_(updates + 1.0)
        ema.update(updates)
        expected = decay * expected + (1 - decay) * (updates + 1.0)
        assert ema.model[0].tolist() == pytest.approx([expected, expected], rel=1e-6)
    assert ema.decay(8) == 0.5  # 9 / 18
    assert ema.decay(10**6) == 0.5


def test_without_warm_up_the_decay_is_constant() -> None:
    assert Ema(nn.Linear(1, 1), EmaConfig(decay=0.99, warmup=False)).decay(0) == 0.99


def test_the_average_is_a_copy_that_takes_no_gradients() -> None:
    model = nn.Linear(2, 2)
    ema = Ema(model, EmaConfig())
    assert not any(p.requires_grad for p in ema.model.parameters())
    assert all(p.requires_grad for p in model.parameters())
    assert not ema.model.training
    before = ema.model.weight.clone()
    with torch.no_grad():
        model.weight.add_(1.0)
    assert torch.equal(ema.model.weight, before)
