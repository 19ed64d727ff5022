"""The digits in many classes: what a class is, that it is a pure function of the seed, and that it can be read back."""

import numpy as np
import pytest
import torch

from flowgression import InputError
from flowgression.data import DataConfig, load_mnist, open_dataset
from flowgression.data.config import ClassesConfig
from flowgression.data.many_classes import (
    CONTRAST,
    MnistClasses,
    draw_styles,
    nearest_colours,
    take_off,
)


def dataset(**settings: object) -> MnistClasses:
    given = {"num_classes": 30, "images_per_class": 12, **settings}
    split, size = str(given.pop("split", "test")), given.pop("image_size", None)
    return MnistClasses(ClassesConfig(**given), split, size)  # type: ignore[arg-type]


def test_styles_differ_and_fewer_are_the_first_of_more() -> None:
    many = draw_styles(5000)
    assert len({many.name(index) for index in range(5000)}) == 5000
    assert [many.name(index) for index in range(40)] == [draw_styles(40).name(index) for index in range(40)]
    assert many.name(0) != draw_styles(1, seed=1).name(0)
    distances = np.linalg.norm(many.inks.astype(float) - many.grounds, axis=1)
    assert distances.min() >= CONTRAST
    assert np.bincount(many.digits).tolist() == [500] * 10
    assert np.bincount(many.turns + 4 * many.mirrored + 8 * many.bold, minlength=16).min() > 200


def test_a_plain_class_shows_the_digits_themselves_in_its_two_colours() -> None:
    data = dataset(num_classes=200)
    plain = np.flatnonzero((data.styles.turns == 0) & ~data.styles.mirrored & ~data.styles.bold)
    assert len(plain)
    digits, _ = load_mnist("test")
    for index in plain[:3].tolist():
        image, digit = data.pixels([index])[0].numpy(), digits[data.digit_indices([index])[0]]
        ink, ground = (colours[index].astype(float)[:, None, None] for colours in data.styles[1:3])
        assert np.abs(image - (ground + digit / 255 * (ink - ground))).max() <= 0.5 + 1e-9


def test_classes_take_turns_and_show_different_digits_of_their_kind() -> None:
    data = dataset()
    assert data.labels.tolist() == list(range(30)) * 12
    _, labels = load_mnist("test")
    for label in (0, 17):
        shown = data.digit_indices(np.flatnonzero(data.labels == label).tolist())
        assert len(set(shown.tolist())) == 12
        assert set(labels[shown].tolist()) == {label % 10}


def test_nothing_but_the_seed_decides() -> None:
    indices = [0, 33, 359, 7]
    one, again = dataset(), dataset()
    assert torch.equal(one.pixels(indices), again.pixels(indices))
    assert torch.equal(one.pixels(indices)[2:3], one.pixels(indices[2:3]))
    assert not torch.equal(one.pixels(indices), dataset(seed=1).pixels(indices))


def test_held_out_classes_are_the_last_of_all() -> None:
    everything, trained = dataset(held_out=0), dataset(held_out=6)
    held_out = dataset(held_out=6, part="held-out")
    assert trained.class_names == everything.class_names[:24]
    assert held_out.class_names == everything.class_names[24:]
    assert trained.num_classes == 24
    assert dataset(held_out=6, part="all").class_names == everything.class_names
    assert torch.equal(held_out.pixels([2, 6 + 2]), everything.pixels([26, 30 + 26]))
    assert torch.equal(trained.pixels([3]), everything.pixels([3]))


def test_images_of_a_class_by_default() -> None:
    assert dataset(num_classes=10, images_per_class=None).images_per_class == 892  # zeros to nines: of the rarest
    assert dataset(num_classes=100, images_per_class=None).images_per_class == 100
    assert dataset(num_classes=10_000, images_per_class=None).images_per_class == 20


def test_colours_are_read_back_and_taken_off() -> None:
    data = dataset(num_classes=40)
    images = data.pixels(range(120))
    labels = data.labels[:120]
    found = nearest_colours(images, data.styles)
    same = (data.styles.inks[found] == data.styles.inks[labels]).all(1)
    assert (same & (data.styles.grounds[found] == data.styles.grounds[labels]).all(1)).all()
    upright = take_off(images, labels, data.styles)
    plain = ~data.styles.bold[labels]
    digits = torch.from_numpy(load_mnist("test").images[data.digit_indices(range(120))])
    # Rounding a colour by half a unit moves the share of ink by at most half a unit in CONTRAST along the line.
    assert (upright[:, 0].int() - digits.int()).abs()[plain].max() <= np.ceil(0.5 * 3**0.5 / CONTRAST * 255 + 0.5)


def test_the_loader_reads_it_by_its_name_at_any_size() -> None:
    config = DataConfig(path="mnist-classes", split="test", image_size=16, classes=ClassesConfig(num_classes=20))
    data = open_dataset(config)
    assert (data.channels, data.image_size, data.num_classes) == (3, 16, 20)
    assert data.pixels([0, 5]).shape == (2, 3, 16, 16)
    assert data.batch([0], [False]).min() >= -1


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"num_classes": 0}, "num_classes is 0"),
        ({"num_classes": 10**6}, "styles, so at most"),
        ({"images_per_class": 893}, "892 times"),
        ({"images_per_class": 0}, "images_per_class is 0"),
        ({"held_out": 30}, "fewer than"),
        ({"part": "held-out"}, "held_out is 0"),
        ({"part": "held_out"}, "did you mean 'held-out'"),
        ({"seed": -1}, "seed is -1"),
    ],
)
def test_wrong_settings_are_refused(settings: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        dataset(**settings)


def test_classes_are_for_this_data_set_alone_and_need_colour() -> None:
    with pytest.raises(InputError, match=r"data\.classes is for data\.path mnist-classes"):
        DataConfig(path="mnist", classes=ClassesConfig(num_classes=20))
    with pytest.raises(InputError, match="differ by colours"):
        DataConfig(path="mnist-classes", channels=1)
