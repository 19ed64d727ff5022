"""Random numbers depend on seed and step alone, and processes share one stream."""

import torch

from flowgression.training import TimesConfig
from flowgression.training.randomness import StepRandomness, derived_seed


def test_equal_seed_and_step_give_equal_numbers() -> None:
    first, second = StepRandomness(3, 17), StepRandomness(3, 17)
    assert torch.equal(first.normal((2, 5)), second.normal((2, 5)))
    assert torch.equal(first.uniform((4,)), second.uniform((4,)))


def test_other_seeds_and_steps_give_other_numbers() -> None:
    draws = {tuple(StepRandomness(seed, step).normal((3,)).tolist()) for seed in range(5) for step in (0, 1, 2, 10**6)}
    assert len(draws) == 20
    assert len({derived_seed(seed, step) for seed in range(50) for step in range(50)}) == 2500


def test_parts_together_draw_what_the_whole_batch_draws() -> None:
    whole = StepRandomness(0, 5)
    parts = [StepRandomness(0, 5, part=index, num_parts=3) for index in range(3)]
    for draw in ("normal", "uniform"):
        together = torch.cat([getattr(part, draw)((2, 4)) for part in parts])
        assert torch.equal(together, getattr(whole, draw)((6, 4)))


def test_the_numbers_have_their_distributions() -> None:
    random = StepRandomness(0, 0)
    normal, uniform = random.normal((40_000,)), random.uniform((40_000,))
    assert abs(normal.mean()) < 0.02
    assert abs(normal.std() - 1) < 0.02
    assert uniform.min() >= 0
    assert uniform.max() < 1
    assert abs(uniform.mean() - 0.5) < 0.01


def test_the_global_state_of_torch_is_not_touched() -> None:
    before = torch.get_rng_state()
    StepRandomness(0, 0).normal((3,))
    assert torch.equal(torch.get_rng_state(), before)


def test_times_are_uniform_or_logit_normal() -> None:
    plain, bent = StepRandomness(0, 1), StepRandomness(0, 1, times=TimesConfig(name="logit-normal", mean=0.5, std=0.8))
    assert torch.equal(plain.times((100,)), StepRandomness(0, 1).uniform((100,)))
    logits = torch.logit(bent.times((40_000,)).double())
    assert abs(logits.mean() - 0.5) < 5 * 0.8 / 200  # five standard errors
    assert abs(logits.std() - 0.8) < 5 * 0.8 / 283


def test_the_ends_of_the_quantiles_are_the_ends_of_time_and_order_is_kept() -> None:
    random = StepRandomness(0, 0, times=TimesConfig(name="logit-normal"))
    quantiles = torch.linspace(0, 1, 101)
    times = random.time_at(quantiles)
    assert times[0] == 0
    assert times[-1] == 1
    assert times[50] == 0.5
    assert bool((times.diff() > 0).all())
