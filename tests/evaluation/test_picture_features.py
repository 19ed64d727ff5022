"""The features `pictures-1`: ladders of damaged pictures that the network never saw; which features are chosen."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image, ImageFilter

from flowgression import evaluate
from flowgression.classes import Classes
from flowgression.data import load_mnist
from flowgression.evaluation import collect, compare, load_extractor
from flowgression.evaluation.features.base import Extractor
from flowgression.evaluation.features.choice import choose_features, names_digits, warning_about
from flowgression.evaluation.images import ArrayImages

# Noto Color Emoji (SIL Open Font License 1.1), 32 x 32 pixels, 40 of each class in a row (tools/pictures.py things).
SHEET = Path(__file__).parent.parent / "goldens" / "emoji.png"
NAMES = ["animals", "buttons", "faces", "flags", "people", "vehicles"]
SIDE, EACH = 32, 40
Pixels = NDArray[np.uint8]


@pytest.fixture(scope="module")
def emoji() -> Pixels:
    sheet = np.asarray(Image.open(SHEET).convert("RGB"))
    tiles = sheet.reshape(len(NAMES), SIDE, EACH, SIDE, 3).transpose(0, 2, 1, 3, 4)
    return np.ascontiguousarray(tiles.reshape(-1, SIDE, SIDE, 3))


@pytest.fixture(scope="module")
def features() -> Extractor:
    torch.set_num_threads(1)
    return load_extractor("pictures-1")


LABELS = np.repeat(np.arange(len(NAMES)), EACH)


def named(images: Pixels, labels: NDArray[Any] = LABELS, names: list[str] = NAMES) -> ArrayImages:
    return ArrayImages("pictures", images, labels.tolist(), Classes(names))


def each(images: Pixels, change: Callable[[Image.Image], Image.Image]) -> Pixels:
    return np.stack([np.asarray(change(Image.fromarray(image))) for image in images])


def blurred(images: Pixels, level: int) -> Pixels:
    return each(images, lambda image: image.filter(ImageFilter.GaussianBlur((0.5, 1.0, 2.0)[level])))


def mosaic(images: Pixels, level: int) -> Pixels:
    side = (16, 8, 4)[level]
    return each(
        images,
        lambda image: image.resize((side, side), Image.Resampling.BOX).resize((SIDE, SIDE), Image.Resampling.NEAREST),
    )


def noisy(images: Pixels, level: int) -> Pixels:
    noise = np.random.default_rng(0).normal(scale=(10, 30, 90)[level], size=images.shape)
    return np.clip(images + noise, 0, 255).round().astype(np.uint8)


def of_other_classes(images: Pixels, level: int) -> Pixels:
    """Some classes are drawn as the first one."""
    changed = images.reshape(len(NAMES), EACH, *images.shape[1:]).copy()
    changed[1 : 2 + level] = changed[0]
    return changed.reshape(images.shape)


def dropped(images: Pixels, level: int) -> Pixels:
    """One, two or four of six classes are never drawn."""
    return images[(1, 2, 4)[level] * EACH :]


@pytest.mark.parametrize("damage", [blurred, mosaic, noisy, of_other_classes, dropped])
def test_more_damage_is_further_away(
    emoji: Pixels, features: Extractor, damage: Callable[[Pixels, int], Pixels]
) -> None:
    reference = collect(named(emoji), features)

    def distances(images: Pixels) -> tuple[float, float]:
        labels = LABELS[-len(images) :]
        found = compare(collect(named(images, labels), features), reference, num_replicates=0).estimates
        assert found["fid"].value is not None
        assert found["kid"].value is not None
        return found["fid"].value, found["kid"].value

    ladder = [distances(emoji), *(distances(damage(emoji, level)) for level in range(3))]
    for metric in zip(*ladder, strict=True):
        assert list(metric) == sorted(metric)
        assert metric[1] > metric[0]


def test_a_mosaic_is_far_from_real(emoji: Pixels, features: Extractor) -> None:
    """Further than two halves of the real pictures are from each other, by a wide margin."""
    even, odd = emoji[::2], emoji[1::2]
    reference = collect(named(odd, LABELS[1::2]), features)

    def distance(images: Pixels) -> float:
        found = compare(collect(named(images, LABELS[::2]), features), reference, num_replicates=0)
        assert found.estimates["fid"].value is not None
        return found.estimates["fid"].value

    assert distance(mosaic(even, 1)) > 2 * distance(even)
    assert distance(mosaic(even, 2)) > 4 * distance(even)


def test_digits_are_judged_by_the_digit_classifier_and_nothing_else_is(emoji: Pixels) -> None:
    digits, labels = load_mnist("test")
    grey = ArrayImages(
        "digits.npz", digits[:20, ..., None], labels[:20].tolist(), Classes(["zero", *map(str, range(1, 10))])
    )
    assert choose_features(grey) == "mnist"
    assert choose_features(ArrayImages("x", digits[:20, ..., None])) == "mnist"
    assert choose_features(named(emoji)) in ("pictures-1", "inception")
    assert choose_features(ArrayImages("x", emoji)) in ("pictures-1", "inception")
    letters = ArrayImages("letters", digits[:20, ..., None], [0] * 20, Classes(["A"]))
    assert choose_features(letters) in ("pictures-1", "inception")
    assert names_digits(["zero, nought", "1"])
    assert not names_digits(["zero", "A"])
    assert not names_digits([])
    assert warning_about("mnist", grey) is None
    assert warning_about("pictures-1", named(emoji)) is None
    assert "Nothing says" in str(warning_about("mnist", ArrayImages("x", digits[:20, ..., None])))


def test_wrong_features_warn_loudly(emoji: Pixels) -> None:
    with pytest.warns(UserWarning, match="WRONG FEATURES: mnist is a classifier of digits"):
        report = evaluate(named(emoji), named(emoji), features="mnist", num_replicates=0).report
    assert report["notes"][0].startswith("WRONG FEATURES")
    chosen = evaluate(named(emoji), named(emoji), features="pictures-1", num_replicates=0).report
    assert (
        chosen["notes"][0]
        == "Distances of pictures-1 compare with distances of pictures-1 only, not with published FIDs."
    )
    assert set(chosen["fid_per_class"]) == set(NAMES)


def test_grey_pictures_are_read_as_colour_ones_without_colours(emoji: Pixels, features: Extractor) -> None:
    grey = each(emoji[:8], lambda image: image.convert("L"))[..., None]
    found = [features(torch.from_numpy(x).permute(0, 3, 1, 2)).features for x in (grey, np.repeat(grey, 3, axis=-1))]
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)
    assert found[0].shape == (8, 96)
