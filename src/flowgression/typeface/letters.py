"""Letters from pictures: cut out of a photo, and placed as a model of glyphs expects them.

A model of glyphs draws white on black in a square of side s: letters stand on one baseline, at one size. The places
below are means over the fonts of training, as shares of s; what people draw is scaled to them as a whole.

H, W: size of a picture; s: side of the model's square.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageFilter, ImageOps
from scipy import ndimage

from flowgression.errors import InputError

BASELINE = 0.74  # from the top
CAPITAL, SMALL, ASCENDER, DESCENDER = 0.58, 0.42, 0.62, 0.18  # heights above the baseline, depth below it
TALL, DEEP = "bdfhklt", "gjpqy"
SPECK = 0.002  # of a picture's area: smaller spots are dirt
PAPER = 128  # a ground lighter than this is paper with dark ink


def expected_extent(character: str) -> tuple[float, float]:
    """How far a character reaches above the baseline and below it, as shares of s; of marks what a capital does."""
    if character.islower():
        above = ASCENDER if character in TALL else SMALL + (0.14 if character in "ij" else 0)
        return above, DESCENDER if character in DEEP else 0.0
    return CAPITAL, 0.0


def as_ink(picture: Image.Image) -> NDArray[np.float32]:
    """Any picture -> float32 [H, W] in [0, 1], ink 1: dark on light is turned round, uneven light is evened out."""
    grey = picture.convert("RGBA")
    grey = Image.alpha_composite(Image.new("RGBA", grey.size, "white"), grey).convert("L")
    pixels = np.asarray(ImageOps.exif_transpose(grey), dtype=np.float32)
    border = np.concatenate([pixels[0], pixels[-1], pixels[:, 0], pixels[:, -1]])
    if np.median(border) >= PAPER:
        pixels = 255 - pixels
    side = max(pixels.shape)
    if side > 256:  # a photo: the paper's own light and shade, much wider than a stroke, is taken off
        wide = Image.fromarray(pixels.astype(np.uint8)).filter(ImageFilter.MedianFilter(9))
        ground = ndimage.minimum_filter(np.asarray(wide, dtype=np.float32), side // 16)
        pixels = np.maximum(pixels - ndimage.gaussian_filter(ground, side / 32), 0)
    low, high = np.percentile(pixels, 5), pixels.max()
    if high - low < 32:
        raise InputError("the picture shows no ink: letters must be much darker than the paper, or much lighter")
    return np.clip((pixels - low) / (0.85 * (high - low)), 0, 1).astype(np.float32)


def cut(picture: Image.Image, text: str) -> dict[str, NDArray[np.float32]]:
    """Letters written in a row, from left to right -> float32 [H, w] in [0, 1] of each, of full height.

    Parts above each other (i, j, !) are one letter; there must be a gap between letters. Spots smaller than SPECK are
    left out.

    Raises:
        InputError: other than as many letters as `text` has, or a letter that it has twice.
    """
    wanted = [character for character in text if not character.isspace()]
    if len(set(wanted)) < len(wanted) or not wanted:
        raise InputError(f"the letters of the picture are said to be {text!r}; expected each one once")
    ink = as_ink(picture)
    labels, count = ndimage.label(ink > 0.4, structure=np.ones((3, 3)))
    areas = ndimage.sum_labels(np.ones_like(ink), labels, range(1, count + 1))
    boxes = ndimage.find_objects(labels)
    spans = sorted(
        (box[1].start, box[1].stop) for box, area in zip(boxes, areas, strict=True) if area > SPECK * 0.1 * ink.size
    )
    merged: list[list[int]] = []
    for start, stop in spans:
        if merged and start < merged[-1][1]:
            merged[-1][1] = max(merged[-1][1], stop)
        else:
            merged.append([start, stop])
    if len(merged) != len(wanted):
        raise InputError(
            f"the picture shows {len(merged)} letters side by side, but {len(wanted)} are named ({text}); write them "
            "in one row with gaps between them, on plain paper, and cut off whatever else is in the picture"
        )
    return {character: ink[:, start:stop] for character, (start, stop) in zip(wanted, merged, strict=True)}


def place(letters: Mapping[str, NDArray[np.float32]], side: int) -> dict[str, NDArray[np.uint8]]:
    """Letters of any size -> uint8 [s, s] of each, ink 255, standing on the model's baseline.

    All get one scale: that at which their heights are nearest to the expected ones. Each stands on the baseline by its
    own ink, small letters with a descender below it.

    Raises:
        InputError: a picture without ink.
    """
    boxes = {character: _box(character, ink) for character, ink in letters.items()}
    ratios = []
    for character, (top, _, bottom, _) in boxes.items():
        if character.isalnum():
            ratios.append(sum(expected_extent(character)) * side / (bottom - top))
    scale = float(np.median(ratios)) if ratios else CAPITAL * side / max(box[2] - box[0] for box in boxes.values())
    widest = max(right - left for _, left, _, right in boxes.values())
    tallest = max(bottom - top for top, _, bottom, _ in boxes.values())
    scale = min(scale, (side - 2) / widest, (side - 2) / tallest)
    placed = {}
    for character, (top, left, bottom, right) in boxes.items():
        _, below = expected_extent(character)
        foot = (BASELINE + below) * side if character.isalnum() else None
        placed[character] = _drawn(letters[character][top:bottom, left:right], scale, side, foot, character)
    return placed


def _box(character: str, ink: NDArray[np.float32]) -> tuple[int, int, int, int]:
    rows, columns = (np.flatnonzero((ink > 0.3).any(axis=axis)) for axis in (1, 0))
    if not len(rows):
        raise InputError(f"the picture of {character!r} shows no ink")
    return int(rows[0]), int(columns[0]), int(rows[-1]) + 1, int(columns[-1]) + 1


def _drawn(ink: NDArray[np.float32], scale: float, side: int, foot: float | None, character: str) -> NDArray[np.uint8]:
    """Ink [h, w] in the square: `foot` is the row of its lower edge, None for marks, which know their own place."""
    height, width = (max(1, round(length * scale)) for length in ink.shape)
    picture = Image.fromarray((255 * ink).astype(np.uint8)).resize((width, height), Image.Resampling.BOX)
    if foot is None:
        foot = BASELINE * side - {"-": 0.25, "'": 0.42}.get(character, -0.08 if character == "," else 0) * side
    top = int(np.clip(round(foot) - height, 0, side - height))
    square = np.zeros((side, side), dtype=np.uint8)
    left = (side - width) // 2
    square[top : top + height, left : left + width] = np.asarray(picture)
    return square


def baseline_of(glyphs: Mapping[str, NDArray[np.uint8]]) -> float:
    """The row on which letters stand, from those that have flat feet: the median of where their ink ends."""
    feet = _ends([glyphs[c] for c in "AHIMNTXhikmnrx" if c in glyphs], last=True)
    feet = feet or _ends([g for c, g in glyphs.items() if c.isalnum() and c not in DEEP], last=True)
    return float(np.median(feet)) if feet else BASELINE * next(iter(glyphs.values())).shape[0]


def _ends(glyphs: Sequence[NDArray[np.uint8]], *, last: bool) -> list[float]:
    """Where the ink of each ends, or begins, to a part of a pixel."""
    found = []
    for glyph in glyphs:
        profile = glyph.max(axis=1) / max(float(glyph.max()), 1.0)
        rows = np.flatnonzero(profile > 0.95)
        if len(rows):
            row = rows[-1] if last else rows[0]
            beyond = row + (1 if last else -1)
            rest = profile[beyond] if 0 <= beyond < len(profile) else 0.0
            found.append(row + 1 + rest if last else row - rest)
    return found
