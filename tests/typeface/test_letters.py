"""Letters cut out of pictures and placed for a model."""

import numpy as np
import pytest
from PIL import Image, ImageDraw, ImageFilter

from flowgression import InputError
from flowgression.typeface.letters import BASELINE, as_ink, baseline_of, cut, place

SIDE = 36


def page(light: bool = True, size: int = 40) -> Image.Image:
    """A bar, a ring, and a dot above a bar ("lOi"), dark on light or light on dark."""
    ink, ground = (20, 235) if light else (230, 10)
    picture = Image.new("L", (8 * size, 3 * size), ground)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((size, size // 2, size + size // 5, 2 * size), fill=ink)
    draw.ellipse((2 * size, size // 2, 4 * size, 2 * size), outline=ink, width=size // 5)
    draw.rectangle((5 * size, size, 5 * size + size // 5, 2 * size), fill=ink)
    draw.ellipse((5 * size, size // 2, 5 * size + size // 5, size // 2 + size // 5), fill=ink)
    return picture


@pytest.mark.parametrize("light", [True, False])
def test_letters_are_cut_from_left_to_right_and_dots_stay_with_them(light: bool) -> None:
    found = cut(page(light), "lOi")
    assert list(found) == ["l", "O", "i"]
    widths = [ink.shape[1] for ink in found.values()]
    assert widths == pytest.approx([9, 81, 9], abs=3)
    assert found["i"][20:28].max() == 1  # the dot
    assert found["i"][30:38].max() < 0.5  # and the gap below it


def test_a_photo_may_be_uneven_and_dirty() -> None:
    pixels = np.asarray(page(size=100).filter(ImageFilter.GaussianBlur(2)), dtype=np.float64)
    light = np.linspace(0.55, 1.0, pixels.shape[1])[None] * np.linspace(0.8, 1.0, pixels.shape[0])[:, None]
    noise = np.random.default_rng(0).normal(0, 4, pixels.shape)
    photo = Image.fromarray(np.clip(pixels * light + noise, 0, 255).astype(np.uint8)).convert("RGB")
    photo.putpixel((700, 280), (0, 0, 0))
    assert [ink.shape[1] for ink in cut(photo, "lOi").values()] == pytest.approx([21, 201, 21], abs=8)


def test_wrong_texts_are_named() -> None:
    with pytest.raises(InputError, match=r"shows 3 letters .* but 2 are named"):
        cut(page(), "lO")
    with pytest.raises(InputError, match="each one once"):
        cut(page(), "lOl")
    with pytest.raises(InputError, match="shows no ink"):
        as_ink(Image.new("L", (20, 20), 200))


def test_letters_stand_on_the_baseline_at_one_size() -> None:
    tall, low = np.zeros((100, 30), np.float32), np.zeros((100, 30), np.float32)
    tall[10:70, 5:20] = 1
    low[30:90, 5:20] = 1  # as high, a third of it below the line
    placed = place({"H": tall, "p": low}, SIDE)
    rows = {character: np.flatnonzero(glyph.max(1) > 127) for character, glyph in placed.items()}
    assert abs(rows["H"][-1] + 1 - BASELINE * SIDE) <= 1
    assert rows["p"][-1] - rows["H"][-1] == pytest.approx(0.18 * SIDE, abs=1)
    assert abs(len(rows["H"]) - len(rows["p"])) <= 1
    twice = place({"H": tall.repeat(2, 0).repeat(2, 1), "p": low.repeat(2, 0).repeat(2, 1)}, SIDE)
    for character, glyph in placed.items():  # the size of the picture does not matter
        assert np.abs(glyph.astype(int) - twice[character]).max() < 80
    columns = np.flatnonzero(placed["H"].max(0) > 127)
    assert abs(columns[0] + columns[-1] - (SIDE - 1)) <= 1
    with pytest.raises(InputError, match="of 'x' shows no ink"):
        place({"x": np.zeros((9, 9), np.float32)}, SIDE)


def test_wide_letters_fit() -> None:
    wide = np.ones((10, 100), np.float32)
    placed = place({"W": wide, "-": np.ones((2, 8), np.float32)}, SIDE)
    assert placed["W"][:, 0].max() == 0
    assert placed["-"].any()


def test_the_baseline_is_where_flat_feet_are() -> None:
    glyph, deep = np.zeros((SIDE, SIDE), np.uint8), np.zeros((SIDE, SIDE), np.uint8)
    glyph[5:25, 10:20], glyph[25, 10:20] = 255, 128
    deep[5:33, 10:20] = 255
    assert baseline_of({"H": glyph, "g": deep, "p": deep}) == pytest.approx(25.5, abs=0.01)
