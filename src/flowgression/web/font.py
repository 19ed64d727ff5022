"""A font file of pictures that were drawn on the page."""

import unicodedata
from collections.abc import Mapping
from io import BytesIO
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgression.errors import InputError
from flowgression.web.arrays import decode

MOST_GLYPHS, SIDES, LONGEST_NAME = 128, (8, 128), 60


def font_file(body: Any) -> bytes:
    """TrueType for {"name", "size", "glyphs": [{"character", "x"}]}, x a picture of size * size in [-1, 1], ink 1.

    Raises:
        InputError: anything else.
    """
    from flowgression.typeface.build import build_font

    if not isinstance(body, dict) or set(body) != {"name", "size", "glyphs"}:
        raise InputError('the request must be {"name", "size", "glyphs"}')
    name, size, glyphs = body["name"], body["size"], body["glyphs"]
    if not isinstance(name, str) or not 1 <= len(name) <= LONGEST_NAME or not name.isprintable():
        raise InputError(f"name must be a text of 1 to {LONGEST_NAME} printable characters")
    if isinstance(size, bool) or not isinstance(size, int) or not SIDES[0] <= size <= SIDES[1]:
        raise InputError(f"size must be a whole number from {SIDES[0]} to {SIDES[1]}")
    if not isinstance(glyphs, list) or not 1 <= len(glyphs) <= MOST_GLYPHS:
        raise InputError(f"glyphs must be a list of 1 to {MOST_GLYPHS} characters with their pictures")
    pictures: dict[str, NDArray[np.uint8]] = {}
    for glyph in glyphs:
        character, picture = _glyph(glyph, size)
        if character in pictures:
            raise InputError(f"glyphs has {character!r} twice")
        pictures[character] = picture
    file = BytesIO()
    build_font(pictures, name).save(file)
    return file.getvalue()


def _glyph(given: Any, size: int) -> tuple[str, NDArray[np.uint8]]:
    if not isinstance(given, Mapping) or set(given) != {"character", "x"}:
        raise InputError('a glyph must be {"character", "x"}')
    character = given["character"]
    if not isinstance(character, str) or len(character) != 1 or unicodedata.category(character)[0] in "CZ":
        raise InputError("a glyph's character must be one visible character")
    ink = (decode(given["x"], (size, size), "a glyph's x").clamp(-1, 1) + 1) * 127.5
    return character, ink.round().numpy().astype(np.uint8)
