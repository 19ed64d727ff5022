"""Glyphs as a TrueType font: outlines, widths from their shapes, kerning, names.

u: units of the font, UNITS to the em; s: side of the pictures in pixels.
"""

import re
from collections.abc import Mapping
from itertools import product
from pathlib import Path
from typing import NamedTuple

import numpy as np
from fontTools.feaLib.builder import addOpenTypeFeaturesFromString
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from fontTools.ttLib import TTFont
from numpy.typing import NDArray

from flowgression.errors import InputError
from flowgression.files import atomic_write
from flowgression.typeface.letters import baseline_of
from flowgression.typeface.outlines import Outline, trace

UNITS = 1000
BESIDE = 0.075  # of s: room beside a straight stem
FOLLOWED = 0.12  # of s: how deep a shape is followed when its room is found
LEAST_KERN, MOST_KERN = 20, 120  # u


class Shape(NamedTuple):
    """A glyph's outlines and, for every row of its picture, how far its ink is from the left and the right end.

    left, right: float [s], pixels; inf in rows without ink. width: of the ink, pixels.
    """

    outlines: list[Outline]
    left: NDArray[np.float64]
    right: NDArray[np.float64]
    start: float
    width: float


def build_font(glyphs: Mapping[str, NDArray[np.uint8]], name: str) -> TTFont:
    """Pictures uint8 [s, s] of characters, ink 255, all on one baseline -> a font.

    Raises:
        InputError: no picture with ink, or a name without letters.
    """
    family = " ".join(name.split())
    post = re.sub(r"[^A-Za-z0-9-]", "", family)
    if not post:
        raise InputError(f"the font's name is {name!r}; it needs letters or digits of ASCII")
    shapes = {character: shape for character, glyph in glyphs.items() if (shape := _shape(glyph)) is not None}
    if not shapes:
        raise InputError("none of the pictures shows ink, so there is nothing to make a font of")
    side = next(iter(glyphs.values())).shape[0]
    unit, baseline = UNITS / side, baseline_of(glyphs)
    names = {character: f"uni{ord(character):04X}" for character in shapes}
    drawn = {".notdef": _box_glyph(), "space": TTGlyphPen(None).glyph()}
    metrics = {".notdef": 500, "space": round(0.26 * UNITS)}
    for character, shape in shapes.items():
        left, right = (_room(distance, side) for distance in (shape.left, shape.right))
        drawn[names[character]] = _glyph(shape, left, unit, baseline)
        metrics[names[character]] = round((left + shape.width + right) * unit)
    builder = FontBuilder(UNITS, isTTF=True)
    builder.setupGlyphOrder(list(drawn))
    builder.setupCharacterMap({32: "space", **{ord(character): glyph for character, glyph in names.items()}})
    builder.setupGlyf(drawn)
    bearings = {glyph: getattr(drawn[glyph], "xMin", 0) for glyph in drawn}  # which setupGlyf has found
    builder.setupHorizontalMetrics({glyph: (metrics[glyph], bearings[glyph]) for glyph in drawn})
    top = max(glyph.yMax for glyph in drawn.values() if hasattr(glyph, "yMax"))
    bottom = min(glyph.yMin for glyph in drawn.values() if hasattr(glyph, "yMin"))
    builder.setupHorizontalHeader(ascent=top, descent=bottom, lineGap=round(0.1 * UNITS))
    builder.setupNameTable(
        {
            "familyName": family,
            "styleName": "Regular",
            "uniqueFontIdentifier": f"{post}-Regular",
            "fullName": family,
            "psName": f"{post}-Regular",
            "version": "Version 1.000",
        }
    )
    builder.setupOS2(
        sTypoAscender=top,
        sTypoDescender=bottom,
        sTypoLineGap=round(0.1 * UNITS),
        usWinAscent=max(top, 0),
        usWinDescent=max(-bottom, 0),
        sxHeight=_height(drawn, names, "x"),
        sCapHeight=_height(drawn, names, "H"),
        fsSelection=0x40,
    )
    builder.setupPost()
    if kerning := _kerning(shapes, side, unit):
        pairs = "".join(f"pos {names[a]} {names[b]} {value};" for (a, b), value in kerning.items())
        addOpenTypeFeaturesFromString(builder.font, f"feature kern {{ {pairs} }} kern;")
    return builder.font


def save_font(font: TTFont, path: Path) -> None:
    """Write the font, whole or not at all."""
    with atomic_write(path) as file:
        font.save(file)


def _shape(glyph: NDArray[np.uint8]) -> Shape | None:
    outlines = trace(glyph)
    if not outlines:
        return None
    points = np.concatenate([outline.points for outline in outlines])
    start, stop = float(points[:, 0].min()), float(points[:, 0].max())
    ink = glyph > 127
    columns = np.arange(glyph.shape[1])
    left = np.where(ink, columns, np.inf).min(1) - start
    right = stop - np.where(ink, columns + 1, -np.inf).max(1)
    return Shape(outlines, np.maximum(left, 0), np.maximum(right, 0), start, stop - start)


def _room(distance: NDArray[np.float64], side: int) -> float:
    """Pixels of room on one side: less the more the shape recedes there, as round and slanting letters do."""
    rows = np.flatnonzero(np.isfinite(distance))
    inner = distance[rows[0] : rows[-1] + 1] if len(rows) else np.zeros(1)
    deep = np.minimum(inner, FOLLOWED * side).mean()
    return max(0.25 * BESIDE * side, BESIDE * side - 0.7 * deep)


def _kerning(shapes: Mapping[str, Shape], side: int, unit: float) -> dict[tuple[str, str], int]:
    """How much nearer pairs of letters stand whose shapes leave a hole between them: u, negative, few pairs.

    The gap of a pair is the mean over the rows of the taller one of how far the two are apart, followed to a depth;
    what it exceeds the gap of two straight stems by is taken off, half of it.
    """
    letters = {character: shape for character, shape in shapes.items() if character.isalpha()}
    pairs = {}
    straight = 2 * BESIDE * side
    for (a, left), (b, right) in product(letters.items(), repeat=2):
        apart = left.right + right.left
        rows = np.isfinite(left.right) | np.isfinite(right.left)
        room = _room(left.right, side) + _room(right.left, side)
        gap = np.minimum(apart[rows], 2 * FOLLOWED * side).mean() + room
        nearest = float(np.min(apart)) + room
        excess = min(gap - 1.35 * straight, nearest - 0.5 * straight)
        value = -min(round(0.5 * excess * unit), MOST_KERN)
        if value <= -LEAST_KERN:
            pairs[a, b] = value
    return pairs


def _glyph(shape: Shape, left: float, unit: float, baseline: float):  # type: ignore[no-untyped-def]
    pen = TTGlyphPen(None)
    for outline in shape.outlines:
        x = (outline.points[:, 0] - shape.start + left) * unit
        y = (baseline - outline.points[:, 1]) * unit
        points = [(int(a), int(b)) for a, b in zip(x.round(), y.round(), strict=True)]
        _draw(pen, points, outline.corners)
    return pen.glyph()


def _draw(pen: TTGlyphPen, points: list[tuple[int, int]], corners: NDArray[np.bool_]) -> None:
    """A closed contour: corners are on it, the others are control points, with points on it implied between them."""
    if not corners.any():
        pen.qCurveTo(*points, None)
        pen.closePath()
        return
    first = int(np.flatnonzero(corners)[0])
    order = [(first + index) % len(points) for index in range(1, len(points) + 1)]
    pen.moveTo(points[first])
    controls: list[tuple[int, int]] = []
    for index in order:
        if not corners[index]:
            controls.append(points[index])
        elif controls:
            pen.qCurveTo(*controls, points[index])
            controls = []
        elif index != first:
            pen.lineTo(points[index])
    pen.closePath()


def _box_glyph():  # type: ignore[no-untyped-def]
    pen = TTGlyphPen(None)
    for (left, bottom, right, top), turned in (((50, 0, 450, 700), False), ((100, 50, 400, 650), True)):
        points = [(left, bottom), (left, top), (right, top), (right, bottom)]
        points = points[::-1] if turned else points
        pen.moveTo(points[0])
        for point in points[1:]:
            pen.lineTo(point)
        pen.closePath()
    return pen.glyph()


def _height(drawn: Mapping[str, object], names: Mapping[str, str], character: str) -> int:
    return int(getattr(drawn.get(names.get(character, "")), "yMax", 0))
