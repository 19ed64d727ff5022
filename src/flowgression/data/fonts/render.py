"""From a font file to pictures of its characters, by Pillow and FreeType.

Letters: C characters, H = W = size in pixels.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

MEASURED = 64  # pixels of an em at which outlines are measured
OVERSAMPLING = 4  # drawn so many times larger and averaged, since FreeType's own grey levels are of whole strokes
MISSING = "\U0010fffd"  # private use: what a font shows for a character that it does not have
LEAST = 0.5  # share of the characters that a face must have to be drawn
FORMATS = frozenset({".ttf", ".otf", ".ttc", ".otc", ".woff", ".woff2"})


class Face(NamedTuple):
    """One face of a font file.

    Attributes:
        family, style: as the font names itself.
        images: uint8 [C, H, W], 0 the ground and 255 the ink; zeros for characters that it does not have.
        present: bool [C], which it has.
    """

    family: str
    style: str
    images: NDArray[np.uint8]
    present: NDArray[np.bool_]


def render_file(path: Path, characters: str, size: int) -> list[Face]:
    """All faces of a font file: one, or those of a collection. Raises OSError for what is no font."""
    faces: list[Face] = []
    while True:
        try:
            font = ImageFont.truetype(str(path), MEASURED, len(faces), layout_engine=ImageFont.Layout.BASIC)
        except OSError:
            if not faces:
                raise
            return faces
        faces.append(render_face(font, characters, size))
        if path.suffix.lower() not in (".ttc", ".otc"):
            return faces


def render_face(font: ImageFont.FreeTypeFont, characters: str, size: int) -> Face:
    """One face: its characters at one size and on one baseline, each centred from left to right.

    The size is the largest at which all letters and digits fit with a margin of a pixel; another character that does
    not fit then counts as missing. Missing is also one that looks like U+10FFFD, one without ink, one of three or more
    that look alike, and a small letter that looks exactly like its capital. Of a face that has fewer than half of the
    characters none is drawn.
    """
    family, style = (name or "" for name in font.getname())
    images = np.zeros((len(characters), size, size), dtype=np.uint8)
    boxes = [font.getbbox(character, anchor="ls") for character in characters]
    present = np.array([box[2] > box[0] and box[3] > box[1] for box in boxes])
    present &= ~_doubles([bytes(font.getmask(character)) for character in (*characters, MISSING)], characters)
    if present.mean() < LEAST:
        return Face(family, style, images, present & False)
    letters = [box for box, char, has in zip(boxes, characters, present, strict=True) if has and char.isalnum()]
    top, bottom = min(box[1] for box in letters), max(box[3] for box in letters)
    extent = max(bottom - top, *(box[2] - box[0] for box in letters))
    # Measured outlines are rounded outwards by up to a pixel on each side, also after scaling.
    em = int(MEASURED * ((size - 2) * OVERSAMPLING - 2) / extent)
    font = font.font_variant(size=max(em, 1))
    side = size * OVERSAMPLING
    baseline = round((side - (bottom - top) * em / MEASURED) / 2 - top * em / MEASURED)
    for index in np.flatnonzero(present):
        drawn = _centred(font, characters[index], side, baseline)
        if drawn is None:
            present[index] = False
        else:
            images[index] = np.asarray(drawn.resize((size, size), Image.Resampling.BOX))
    return Face(family, style, images, present)


def _centred(font: ImageFont.FreeTypeFont, character: str, side: int, baseline: int) -> Image.Image | None:
    """The character in a square of `side` pixels; None where it does not fit."""
    left, top, right, bottom = font.getbbox(character, anchor="ls")
    if right - left > side or baseline + top < 0 or baseline + bottom > side:
        return None
    image = Image.new("L", (side, side))
    x = (side - (right - left)) // 2 - left
    ImageDraw.Draw(image).text((x, baseline), character, font=font, fill=255, anchor="ls")
    return image


def _doubles(masks: list[bytes], characters: str) -> NDArray[np.bool_]:
    """Which characters look like others as no character of a text face does: `masks` of all, and of a missing one."""
    *masks, missing = masks
    looks: dict[bytes, list[str]] = {}
    for mask, character in zip(masks, characters, strict=True):
        looks.setdefault(mask, []).append(character)
    return np.array(
        [
            mask == missing
            or len(looks[mask]) > 2
            or (character != character.upper() and character.upper() in looks[mask])
            for mask, character in zip(masks, characters, strict=True)
        ]
    )
