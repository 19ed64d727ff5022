"""Noise that belongs to an image, not to its batch."""

import pytest
import torch
from diffusers.utils.torch_utils import randn_tensor
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.sampling.noise import image_generators, noise_like


def seeded(seed: int) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@settings(max_examples=25, deadline=None)
@given(st.lists(st.integers(1, 4), min_size=1, max_size=4))
def test_splitting_into_batches_changes_nothing(sizes: list[int]) -> None:
    total = sum(sizes)
    whole = noise_like((total, 1, 3, 2), [seeded(number) for number in range(total)])
    own = iter(range(total))
    parts = [noise_like((size, 1, 3, 2), [seeded(next(own)) for _ in range(size)]) for size in sizes]
    assert torch.equal(whole, torch.cat(parts))


@pytest.mark.parametrize("shape", [(1, 4, 6, 4), (3, 4, 6, 4), (3, 1, 3, 3), (2, 5, 1, 7, 7)])
def test_one_generator_draws_what_diffusers_draws(shape: tuple[int, ...]) -> None:
    ours, theirs = seeded(7), seeded(7)
    for _ in range(3):  # the noise of the start, and of steps
        drawn = noise_like(shape, image_generators(ours, shape[0]))
        assert torch.equal(drawn, randn_tensor(shape, generator=theirs))
    if shape[0] == 1:
        assert torch.equal(noise_like(shape, image_generators(seeded(7), 1)), noise_like(shape, [seeded(7)]))
    twice = image_generators(image_generators(seeded(7), shape[0]), shape[0])
    assert torch.equal(noise_like(shape, twice), randn_tensor(shape, generator=seeded(7)))


def test_images_of_one_generator_differ() -> None:
    noise = noise_like((8, 1, 4, 4), image_generators(seeded(0), 8))
    assert torch.cdist(noise.flatten(1), noise.flatten(1)).fill_diagonal_(1).min() > 0.5


def test_a_list_is_used_as_it_is() -> None:
    generators = image_generators([seeded(3), seeded(4)], 2)
    expected = torch.stack([torch.randn(1, 2, 2, generator=seeded(seed)) for seed in (3, 4)])
    assert torch.equal(noise_like((2, 1, 2, 2), generators), expected)


def test_without_a_generator_the_global_seed_decides() -> None:
    noises = []
    for _ in range(2):
        torch.manual_seed(5)
        noises.append(noise_like((2, 4), image_generators(None, 2)))
    assert torch.equal(*noises)
    assert not torch.equal(noises[0], noise_like((2, 4), image_generators(None, 2)))


def test_moments() -> None:
    noise = noise_like((64, 1, 32, 32), image_generators(seeded(0), 64))
    assert abs(noise.mean()) < 0.02
    assert abs(noise.var() - 1) < 0.03


@pytest.mark.parametrize(
    ("generator", "message"),
    [([seeded(0)], "1 generators for 2 images"), ([1, 2], "holds a int; expected torch.Generator")],
)
def test_wrong_generators(generator: list, message: str) -> None:
    with pytest.raises(InputError, match=message):
        image_generators(generator, 2)


def test_wrong_number_of_generators_for_a_shape() -> None:
    with pytest.raises(InputError, match="expected 2"):
        noise_like((2, 4), [seeded(0)])
