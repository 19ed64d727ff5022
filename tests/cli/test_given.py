"""`flowgression sample` with pictures to begin with."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

STEPS = ("--model", "sit-mnist", "--num-inference-steps", 2)


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    pixels = np.random.default_rng(0).integers(0, 256, (28, 28), dtype=np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")
    Image.fromarray(np.where(np.arange(28)[:, None] < 14, 0, 255) * np.ones((28, 28))).convert("L").save(
        tmp_path / "mask.png"
    )
    return tmp_path / "picture.png"


def test_kept_pixels_are_those_of_the_file(command: Callable[..., Any], picture: Path, tmp_path: Path) -> None:
    out, mask = tmp_path / "out.npz", picture.with_name("mask.png")
    found = command("sample", *STEPS, "--image", picture, "--mask", mask, "--class-labels", 3, 7, "--out", out)
    assert found.status == 0, found.err
    images = np.load(out)["arr_0"][..., 0]
    given = np.asarray(Image.open(picture))
    assert images.shape == (2, 28, 28)
    np.testing.assert_array_equal(images[:, :14], np.broadcast_to(given[:14], (2, 14, 28)))
    assert (images[0, 14:] != images[1, 14:]).any()
    assert '"mask_checksum"' in str(np.load(out)["sampling"])


def test_variations_and_the_way_between_classes(command: Callable[..., Any], picture: Path, tmp_path: Path) -> None:
    out = tmp_path / "varied.npz"
    assert command("sample", *STEPS, "--vary", picture, "--num-images", 3, "--out", out).status == 0
    assert np.load(out)["labels"].tolist() == [10, 10, 10]
    film = tmp_path / "way.gif"
    found = command("sample", *STEPS, "--interpolate", "three", 8, "--frames", 4, "--out", film)
    assert found.status == 0, found.err
    with Image.open(film) as opened:
        assert opened.n_frames == 6  # there and back


def test_flags_that_say_nothing_alone(command: Callable[..., Any], picture: Path) -> None:
    for flags, words in (
        (("--strength", 0.5), "give --image or --vary"),
        (("--mask", picture), "give --image, too"),
        (("--image", picture, "--vary", picture), "give one of them"),
        (("--frames", 3), "--interpolate A B"),
        (("--interpolate", 1, 2, "--num-images", 3), "--interpolate and --num-images"),
        (("--interpolate", 1, 2, "--out", "x.npz"), "end with .gif"),
        (("--image", picture.parent / "none.png"), "none.png"),
    ):
        found = command("sample", *STEPS, *flags)
        assert found.status == 2
        assert words in found.err
        assert len(found.err.strip().splitlines()) == 1
