"""From pictures of glyphs to a font file: outlines, spacing, and what other programs make of it."""

import io
from pathlib import Path

import matplotlib
import numpy as np
import pytest
from fontTools.ttLib import TTFont
from numpy.typing import NDArray
from PIL import Image, ImageDraw, ImageFont

from flowgression import InputError
from flowgression.data.fonts.render import render_file
from flowgression.typeface.build import build_font, save_font
from flowgression.typeface.outlines import TOLERANCE, area, trace

FOLDER = Path(matplotlib.get_data_path()) / "fonts" / "ttf"
TEXT = "ABHOTVWxgnoe017.,!?&@'-"


def pictures(name: str = "DejaVuSerif.ttf", size: int = 36) -> dict[str, NDArray[np.uint8]]:
    (face,) = render_file(FOLDER / name, TEXT, size)
    return dict(zip(TEXT, face.images, strict=True))


def disc(radius: float, hole: float = 0.0, side: int = 36) -> NDArray[np.uint8]:
    """A disc with a round hole, its edge as grey as it covers."""
    fine = (np.arange(side * 8) + 0.5) / 8 - side / 2
    away = np.hypot(*np.meshgrid(fine, fine))
    ink = ((away < radius) & (away >= hole)).reshape(side, 8, side, 8).mean((1, 3))
    return (255 * ink).round().astype(np.uint8)


def test_a_ring_has_two_smooth_outlines_of_its_size() -> None:
    outlines = sorted(trace(disc(12, 7)), key=lambda outline: -abs(area(outline.points)))
    assert len(outlines) == 2
    for outline, radius in zip(outlines, (12, 7), strict=True):
        away = np.hypot(*(outline.points - 18).T)
        np.testing.assert_allclose(away, radius, atol=TOLERANCE + 0.1)
        assert not outline.corners.any()
        assert len(outline.points) < 40
    assert area(outlines[0].points) * area(outlines[1].points) < 0  # ink and hole turn opposite ways


def test_a_square_keeps_its_corners() -> None:
    glyph = np.zeros((36, 36), np.uint8)
    glyph[8:28, 10:26] = 255
    (outline,) = trace(glyph)
    assert outline.corners.sum() == 4
    expected = np.array([[10, 8], [26, 8], [10, 28], [26, 28]])
    corners = outline.points[outline.corners]
    for corner in expected:
        assert np.abs(corners - corner).max(1).min() < 0.6
    assert abs(area(outline.points)) == pytest.approx(16 * 20, rel=0.03)
    assert trace(np.zeros((36, 36), np.uint8)) == []


def drawn(font: TTFont | Path, text: str, size: int) -> NDArray[np.float64]:
    """A text in black by FreeType, cut to its ink, in [0, 1]."""
    if isinstance(font, TTFont):
        file = io.BytesIO()
        font.save(file)
        face = ImageFont.truetype(io.BytesIO(file.getvalue()), size)
    else:
        face = ImageFont.truetype(str(font), size)
    image = Image.new("L", (size * (len(text) + 1), 2 * size))
    ImageDraw.Draw(image).text((size // 4, 1.5 * size), text, font=face, fill=255, anchor="ls")
    return np.asarray(image.crop(image.getbbox()), dtype=np.float64) / 255


@pytest.mark.parametrize("name", ["DejaVuSerif.ttf", "DejaVuSans-Bold.ttf"])
def test_characters_look_like_those_of_the_pictures(name: str) -> None:
    """At a size at which both are 100 pixels high, traced from 36, the two differ along their edges only."""
    font = build_font(pictures(name), "Copy")
    for character in "ABgoe&":
        ours, theirs = drawn(font, character, 200), drawn(FOLDER / name, character, 160)
        size = (100, 100)
        one, two = (
            np.asarray(Image.fromarray((255 * each).astype(np.uint8)).resize(size), dtype=float) / 255
            for each in (ours, theirs)
        )
        assert np.abs(one - two).mean() < 0.07, character
        assert ours.shape[0] / ours.shape[1] == pytest.approx(theirs.shape[0] / theirs.shape[1], rel=0.05)


def test_the_tables_of_a_font(tmp_path: Path) -> None:
    glyphs = pictures()
    font = build_font(glyphs, "  My   Häнd 2 ")
    save_font(font, tmp_path / "mine.ttf")
    read = TTFont(tmp_path / "mine.ttf")
    assert set(map(chr, read.getBestCmap())) == {*TEXT, " "}
    assert read["name"].getDebugName(1) == "My Häнd 2"
    assert read["name"].getDebugName(6) == "MyHd2-Regular"
    assert read["OS/2"].sxHeight < read["OS/2"].sCapHeight < read["hhea"].ascent
    assert read["hhea"].descent < -50
    glyf, cmap, widths = read["glyf"], read.getBestCmap(), read["hmtx"]
    for character in "AHnx":
        assert abs(glyf[cmap[ord(character)]].yMin) < 20  # on the baseline
    for character in TEXT:
        glyph = glyf[cmap[ord(character)]]
        advance, bearing = widths[cmap[ord(character)]]
        assert bearing == glyph.xMin > 0
        assert advance > glyph.xMax
    sans = build_font(pictures("DejaVuSans-Bold.ttf"), "Sans")
    room = {c: sans["hmtx"][sans.getBestCmap()[ord(c)]][1] for c in "HOA"}
    assert room["H"] > room["O"] > room["A"]  # straight, round, slanting
    assert ImageFont.truetype(str(tmp_path / "mine.ttf"), 30).getname()[1] == "Regular"


def test_pairs_with_a_hole_between_them_are_kerned() -> None:
    font = build_font(pictures(), "Kerned")
    pairs = {}
    for table in font["GPOS"].table.LookupList.Lookup[0].SubTable:
        if table.Format == 1:
            for first, records in zip(table.Coverage.glyphs, table.PairSet, strict=True):
                for record in records.PairValueRecord:
                    pairs[first, record.SecondGlyph] = record.Value1.XAdvance
    names = {character: f"uni{ord(character):04X}" for character in TEXT}
    assert pairs[names["A"], names["V"]] < -20
    assert pairs[names["T"], names["o"]] < -20
    assert (names["H"], names["n"]) not in pairs
    assert min(pairs.values()) >= -120


def test_the_sanitizer_of_browsers_accepts_it(tmp_path: Path) -> None:
    ots = pytest.importorskip("ots")
    for name in ("DejaVuSerif.ttf", "DejaVuSans-Bold.ttf"):
        save_font(build_font(pictures(name), "Sane"), tmp_path / "sane.ttf")
        result = ots.sanitize(str(tmp_path / "sane.ttf"), str(tmp_path / "out.ttf"), capture_output=True)
        assert result.returncode == 0, result.stderr


def test_what_makes_no_font_is_refused() -> None:
    with pytest.raises(InputError, match="needs letters or digits"):
        build_font(pictures(), " ?! ")
    with pytest.raises(InputError, match="none of the pictures"):
        build_font({"A": np.zeros((36, 36), np.uint8)}, "Empty")
