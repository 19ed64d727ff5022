"""Outlines and font files that the page makes in the browser, against the package's and against fontTools."""

import base64
from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from flowgression.typeface.build import build_font
from flowgression.typeface.outlines import area, trace
from tests.page.nodejs import needs_node, run_module

pytestmark = needs_node
OPENTYPE = Path(__file__).parents[2] / "docs" / "_build" / "npm" / "opentype.js-2.0.0" / "dist" / "opentype.min.mjs"
SIDE = 36


def disc(radius: float, hole: float = 0.0) -> NDArray[np.uint8]:
    """A ring with soft edges."""
    rows, columns = np.mgrid[:SIDE, :SIDE] + 0.5
    away = np.hypot(rows - SIDE / 2, columns - SIDE / 2)
    ink = np.clip(radius - away + 0.5, 0, 1) - (np.clip(hole - away + 0.5, 0, 1) if hole else 0)
    return (255 * ink).round().astype(np.uint8)


def block(top: int, left: int, bottom: int, right: int) -> NDArray[np.uint8]:
    """A filled rectangle."""
    picture = np.zeros((SIDE, SIDE), np.uint8)
    picture[top:bottom, left:right] = 255
    return picture


PICTURES = {"O": disc(11, 6), "I": block(6, 16, 27, 20), "L": np.maximum(block(6, 10, 27, 14), block(23, 10, 27, 26))}


def values(picture: NDArray[np.uint8]) -> list[float]:
    """As the page has it, [-1, 1]."""
    return (picture.astype(np.float64).ravel() / 127.5 - 1).tolist()


def test_outlines_are_those_of_the_package() -> None:
    found = run_module(
        "const { trace } = await load('typeface/outlines.js'); return given.map((picture) => trace(picture, 36));",
        [values(picture) for picture in PICTURES.values()],
    )
    for (name, picture), outlines in zip(PICTURES.items(), found, strict=True):
        theirs = trace(picture)
        mine = [np.asarray(outline["points"]) for outline in outlines]
        assert len(mine) == len(theirs), name
        ours = sorted(abs(area(points)) for points in mine)
        expected = sorted(abs(area(outline.points)) for outline in theirs)
        np.testing.assert_allclose(ours, expected, rtol=0.04)
        # To the eye counter-clockwise around ink (negative where y points down), clockwise around the hole.
        assert [area(points) < 0 for points in sorted(mine, key=lambda p: abs(area(p)))[::-1]] == [True, False][
            : len(mine)
        ]
        assert sum(sum(outline["corners"]) for outline in outlines) == sum(int(o.corners.sum()) for o in theirs), name


def test_a_walk_passes_through_corners_and_between_other_points() -> None:
    code = """const { walk } = await load('typeface/outlines.js'); return given.map((outline) => {
      const said = []; const add = (what) => (...numbers) => said.push([what, ...numbers]);
      walk(outline, { move: add('M'), line: add('L'), curve: add('Q'), place: (point) => point }); return said; });"""
    square = [[0, 0], [2, 0], [2, 2], [0, 2]]
    found = run_module(
        code,
        [
            {"points": square, "corners": [True] * 4},
            {"points": square, "corners": [False] * 4},
            {"points": square, "corners": [True, False, True, False]},
        ],
    )
    assert found[0] == [["M", 0, 0], ["L", 2, 0], ["L", 2, 2], ["L", 0, 2], ["L", 0, 0]]
    assert found[1] == [["M", 0, 1], ["Q", 0, 0, 1, 0], ["Q", 2, 0, 2, 1], ["Q", 2, 2, 1, 2], ["Q", 0, 2, 0, 1]]
    assert found[2] == [["M", 0, 0], ["Q", 2, 0, 2, 2], ["Q", 0, 2, 0, 0]]


def test_a_sheet_of_outlines_is_svg() -> None:
    from xml.etree import ElementTree

    text = run_module(
        """const { sheetSvg } = await load('views/saving.js');
        return sheetSvg(given.names, new Map(given.pictures.map((each, id) => [id, each])), 36);""",
        {"names": ["O", "<&>", "L"], "pictures": [values(picture) for picture in PICTURES.values()]},
    )
    root = ElementTree.fromstring(text)
    assert root.attrib["viewBox"] == "0 0 360 36"
    titles = [title.text for title in root.iter("{http://www.w3.org/2000/svg}title")]
    assert titles == ["O", "<&>", "L"]
    paths = [path.attrib["d"] for path in root.iter("{http://www.w3.org/2000/svg}path")]
    assert [path.count("Z") for path in paths] == [2, 1, 1]


def photo(light: bool = True) -> NDArray[np.uint8]:
    """A T, an o, an i with its dot and a g-like shape in a row, on paper that is darker on one side, with dirt."""
    from PIL import Image, ImageDraw

    picture = Image.new("L", (420, 160), 235)
    pen = ImageDraw.Draw(picture)
    bars = [[(30, 30), (90, 30)], [(60, 30), (60, 110)], [(230, 60), (230, 110)], [(330, 60), (330, 140), (300, 140)]]
    for line in bars:
        pen.line(line, fill=40, width=10, joint="curve")
    pen.ellipse([120, 60, 180, 110], outline=40, width=10)
    pen.ellipse([224, 36, 236, 48], fill=40)
    pen.ellipse([290, 60, 334, 110], outline=40, width=10)
    pen.point([(200, 20), (380, 80)], fill=60)
    shade = np.linspace(0, 60, 420)[None]
    pixels = np.clip(np.asarray(picture, dtype=np.float64) - shade, 0, 255).astype(np.uint8)
    return pixels if light else 255 - pixels


@pytest.mark.parametrize("light", [True, False])
def test_letters_of_a_photo_are_those_of_the_package(light: bool) -> None:
    from PIL import Image

    from flowgression.typeface.letters import cut, place

    pixels = photo(light)
    code = """const { lettersOf } = await load('typeface/photo.js'); const { grey, width, height, text } = given;
    return Object.fromEntries([...lettersOf(grey, width, height, text, 36)].map(([k, v]) => [k, [...v]]));"""
    given = {"grey": (pixels / 255).ravel().tolist(), "width": 420, "height": 160, "text": "To ig"}
    found = run_module(code, given)
    expected = place(cut(Image.fromarray(pixels), "Toig"), 36)
    assert list(found) == list("Toig")
    for letter, picture in expected.items():
        theirs, mine = picture / 255, (np.asarray(found[letter]).reshape(36, 36) + 1) / 2
        assert np.abs(mine - theirs).mean() < 0.1 * theirs.mean(), letter
        assert [np.flatnonzero(each.max(1) > 0.5)[-1] for each in (mine, theirs)] in ([22, 22], [26, 26], [32, 32])
    refused = """const { lettersOf } = await load('typeface/photo.js');
    return ['To', 'Toog', ' '].map((text) => {
      try { return lettersOf(given.grey, 420, 160, text, 36).size; } catch (error) { return error.message; } });"""
    few, twice, none = run_module(refused, given)
    assert "shows 4 letters side by side, but 2 are named" in few
    assert "each once" in twice
    assert "each once" in none


@pytest.mark.skipif(not OPENTYPE.is_file(), reason="run `python tools/npm.py opentype.js` first")
def test_the_font_of_the_browser_is_that_of_the_package(tmp_path: Path) -> None:
    from fontTools.ttLib import TTFont
    from PIL import Image, ImageDraw, ImageFont

    content = run_module(
        """const opentype = await import(given.library), { buildFont } = await load('typeface/font.js');
        return Buffer.from(buildFont(opentype, given.glyphs, 36, 'My Hand')).toString('base64');""",
        {"library": OPENTYPE.as_uri(), "glyphs": [{"character": c, "x": values(p)} for c, p in PICTURES.items()]},
    )
    (tmp_path / "mine.otf").write_bytes(base64.b64decode(content))
    mine, theirs = TTFont(tmp_path / "mine.otf"), build_font(PICTURES, "My Hand")
    assert mine["name"].getDebugName(1) == "My Hand"
    assert set(mine.getBestCmap()) == set(theirs.getBestCmap()) == {32, *map(ord, PICTURES)}
    widths = [{c: font["hmtx"][font.getBestCmap()[ord(c)]][0] for c in PICTURES} for font in (mine, theirs)]
    for character in PICTURES:
        assert abs(widths[0][character] - widths[1][character]) <= 20, widths
    file = BytesIO()
    theirs.save(file)
    shown = []
    for source in (str(tmp_path / "mine.otf"), BytesIO(file.getvalue())):
        canvas = Image.new("L", (200, 72))
        ImageDraw.Draw(canvas).text((4, 60), "OIL", fill=255, font=ImageFont.truetype(source, 64), anchor="ls")
        shown.append(np.asarray(canvas, dtype=np.float64) / 255)
    assert 0.1 < shown[1].mean() < 0.5
    assert np.abs(shown[0] - shown[1]).mean() < 0.15 * shown[1].mean()
    ots = pytest.importorskip("ots")
    done = ots.sanitize(str(tmp_path / "mine.otf"), str(tmp_path / "sane.otf"), capture_output=True)
    assert done.returncode == 0, done.stderr
