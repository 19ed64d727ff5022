"""Random numbers depend on seed and step alone, and processes share one stream."""

import torch

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
