"""Augmentation: nothing is done where nothing is told, what is told is what was done, and shares are as asked for."""

import math

import pytest
import torch
from torch import Tensor

from flowgression.data.augment import AUGMENT_DIM, OPERATIONS, Draws, augment

FLIP, SCALE, TURN, STRETCH, SHIFT, BRIGHTNESS, CONTRAST, HUE, SATURATION = range(OPERATIONS)


def draws(rows: int, *operations: int, turn: float = 0.5, strength: float = 0.0) -> Draws:
    """Draws that turn these operations on for all rows, whatever the share."""
    on = torch.full((rows, OPERATIONS), 0.999)
    on[:, list(operations)] = 0.0
    return Draws(on, torch.full((rows, 3), turn), torch.full((rows, 7), strength))


def pictures(rows: int = 4, channels: int = 3, size: int = 16) -> Tensor:
    """Smooth pictures in [-0.5, 0.5]: interpolation and clamping change little in them."""
    across = torch.linspace(0, 2, size)
    waves = torch.stack([torch.outer((a * across).cos(), (b * across).sin()) for a in (1, 2) for b in (1, 2)])
    mixed = torch.rand(rows, channels, 4, generator=torch.Generator().manual_seed(0)) - 0.5
    return torch.einsum("ncw,whv->nchv", mixed, waves) / 2


def random_draws(rows: int, seed: int = 0) -> Draws:
    generator = torch.Generator().manual_seed(seed)
    shapes = (OPERATIONS, 3)
    on, turns = (torch.rand(rows, width, generator=generator) for width in shapes)
    return Draws(on, turns, torch.randn(rows, 7, generator=generator))


def test_images_that_nothing_was_done_to_are_as_they_were_and_nothing_is_told() -> None:
    images = pictures(200)
    found, told = augment(images, 0.1, random_draws(200))
    untouched = (told == 0).all(1)
    assert 0.25 < untouched.float().mean() < 0.52  # 0.9^9 = 0.39
    assert torch.equal(found[untouched], images[untouched])
    assert (found[~untouched] != images[~untouched]).flatten(1).any(1).all()
    assert torch.equal(augment(images, 0.0, random_draws(200))[0], images)


def test_each_operation_comes_as_often_as_asked_for() -> None:
    told = augment(pictures(4000, size=4), 0.3, random_draws(4000))[1]
    parts = [told[:, part].abs().amax(1) for part in ([0], [1], [2, 3], [4, 5], [6, 7], [8], [9], [10, 11], [12])]
    for part in parts:
        assert (part != 0).float().mean() == pytest.approx(0.3, abs=4 * (0.3 * 0.7 / 4000) ** 0.5)
    assert told.shape == (4000, AUGMENT_DIM)


def test_flip_shift_and_turn_are_those_of_the_pixels() -> None:
    images = pictures()
    assert torch.allclose(augment(images, 0.5, draws(4, FLIP))[0], images.flip(-1), atol=1e-5)
    # A strength of 1 moves by an eighth of the side: two pixels to the right and down.
    moved, told = augment(images, 0.5, draws(4, SHIFT, strength=1.0))
    assert torch.allclose(moved[..., 2:, 2:], images[..., :-2, :-2], atol=1e-5)
    assert told[0].tolist() == [0, 0, 0, 0, 0, 0, 1, 1, 0, 0, 0, 0, 0]
    # 0.75 of the way from -pi to pi is a quarter turn.
    turned, told = augment(images, 0.5, draws(4, TURN, turn=0.75))
    assert torch.allclose(turned, images.rot90(3, (-2, -1)), atol=1e-4)
    assert told[0, 2:4].tolist() == pytest.approx([-1, 1], abs=1e-6)


def test_scale_enlarges_around_the_centre_and_stretch_keeps_the_area() -> None:
    image = torch.zeros(1, 1, 33, 33)
    image[..., 12:21, 12:21] = 1.0
    count = image.sum().item()
    larger = augment(image, 0.5, draws(1, SCALE, strength=2.5))[0]  # 2^(0.2 * 2.5) = sqrt 2 on both sides
    assert larger.sum().item() == pytest.approx(2 * count, rel=0.1)
    stretched = augment(image, 0.5, draws(1, STRETCH, strength=2.5))[0]
    assert stretched.sum().item() == pytest.approx(count, rel=0.1)
    assert stretched[0, 0, 16].sum() == pytest.approx(9 * math.sqrt(2), rel=0.15)  # the axis is across
    assert stretched[0, 0, :, 16].sum() == pytest.approx(9 / math.sqrt(2), rel=0.15)


def test_colours_change_as_they_are_named() -> None:
    images = pictures()
    assert torch.allclose(augment(images, 0.5, draws(4, BRIGHTNESS, strength=1.0))[0], images + 0.2, atol=1e-6)
    assert torch.allclose(augment(images, 0.5, draws(4, CONTRAST, strength=1.0))[0], images * 2**0.5, atol=1e-6)
    luma = images.mean(1, keepdim=True)
    more = augment(images, 0.5, draws(4, SATURATION, strength=0.5))[0]
    assert torch.allclose(more, luma + (images - luma) * 2**0.5, atol=1e-6)
    third = augment(images, 0.5, draws(4, HUE, turn=0.5 + 1 / 3))[0]  # a third of the circle: red becomes green
    assert torch.allclose(third, images.roll(1, 1), atol=1e-5)


def test_grey_images_have_no_hue_and_sequences_are_changed_alike() -> None:
    grey, told = augment(pictures(channels=1), 0.5, draws(4, HUE, SATURATION, strength=1.0))
    assert torch.equal(grey, pictures(channels=1))
    assert not told.any()
    images = pictures(6).unflatten(0, (2, 3))
    found, told = augment(images, 0.5, random_draws(2, seed=1))
    assert told.any(1).all()
    for place in range(3):
        alone, same = augment(images[:, place], 0.5, random_draws(2, seed=1))
        assert torch.equal(same, told)
        assert torch.allclose(alone, found[:, place], atol=1e-6)


def test_grey_images_take_brightness_and_contrast() -> None:
    grey = pictures(channels=1)
    found = augment(grey, 0.5, draws(4, BRIGHTNESS, CONTRAST, strength=-1.0))[0]
    assert torch.allclose(found, grey / 2**0.5 - 0.2, atol=1e-6)
