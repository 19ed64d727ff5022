"""`flowgression font`, with the built-in model at one step; its pictures are judged by benchmarks/glyphs.py."""

from pathlib import Path

import numpy as np
import pytest
from fontTools.ttLib import TTFont
from PIL import Image, ImageDraw

from flowgression.cli.main import main
from flowgression.data.config import CHARACTERS

STEPS = ["--num-inference-steps", "1", "--candidates", "1"]


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    """Two letters on paper, "OI"."""
    picture = Image.new("RGB", (200, 100), (240, 236, 225))
    draw = ImageDraw.Draw(picture)
    draw.ellipse((20, 20, 80, 80), outline=(30, 30, 60), width=10)
    draw.rectangle((130, 20, 141, 80), fill=(30, 30, 60))
    picture.save(tmp_path / "photo.png")
    return tmp_path / "photo.png"


def test_letters_on_paper_become_a_font(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, sheet = photo.parent / "mine.ttf", photo.parent / "sheet.png"
    command = ["font", "--photo", str(photo), "--text", "OI", "--out", str(out), "--name", "Paper", *STEPS]
    assert main([*command, "--sheet", str(sheet), "--guidance-scale", "1"]) == 0
    assert "Paper" in capsys.readouterr().out
    font = TTFont(out)
    assert {ord("O"), ord("I"), 32} <= font.getBestCmap().keys() <= {*map(ord, CHARACTERS), 32}
    assert font["name"].getDebugName(4) == "Paper"
    # The shown letters are taken as they are: a ring, which has a hole.
    assert font["glyf"][font.getBestCmap()[ord("O")]].numberOfContours == 2
    assert np.asarray(Image.open(sheet)).min() < 60


def test_a_picture_of_each(photo: Path) -> None:
    folder = photo.parent / "letters"
    folder.mkdir()
    with Image.open(photo) as picture:
        picture.crop((0, 0, 100, 100)).save(folder / "O.png")
        picture.crop((100, 0, 200, 100)).save(folder / "I.png")
    out = photo.parent / "mine.ttf"
    assert main(["font", "--examples", str(folder), "--out", str(out), *STEPS]) == 0
    first = out.read_bytes()
    named = [f"{name}={folder / name}.png" for name in ("I", "O")]
    assert main(["font", "--examples", *named, "--out", str(out), *STEPS]) == 0
    assert abs(len(first) - len(out.read_bytes())) < 200


def test_several_draws_of_each_character(photo: Path) -> None:
    """Of three draws the median is taken; the first is that of --candidates 1."""
    drawn = {}
    for count in (1, 2, 3):
        sheet = photo.parent / f"{count}.png"
        command = ["font", "--photo", str(photo), "--text", "OI", "--redraw", "--out", str(photo.parent / "x.ttf")]
        assert main([*command, *STEPS, "--candidates", str(count), "--sheet", str(sheet)]) == 0
        drawn[count] = np.asarray(Image.open(sheet).convert("L"), dtype=np.int64)
    second = 2 * drawn[2] - drawn[1]  # of two draws the median is the mean
    assert np.abs(second - drawn[1]).max() > 50  # the noise of the second draw is another
    low, high = np.minimum(drawn[1], second), np.maximum(drawn[1], second)
    assert (drawn[3] >= low - 1).all()
    assert (drawn[3] <= high + 1).all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--out", "x.ttf"], "either --examples"),
        (["--photo", "PHOTO", "--out", "x.ttf"], "--photo and --text go together"),
        (["--photo", "PHOTO", "--text", "OIA", "--out", "x.ttf"], "shows 2 letters"),
        (["--photo", "PHOTO", "--text", "OI", "--out", "x.woff"], "ends in .ttf"),
        (["--photo", "PHOTO", "--text", "OI", "--out", "x.ttf", "--candidates", "0"], "--candidates 0: expected 1 to"),
        (["--examples", "PHOTO", "--out", "x.ttf"], "which character is it?"),
        (["--examples", "O=PHOTO", "O=PHOTO", "--out", "x.ttf"], "'O' is shown twice"),
        (["--examples", "Ö=PHOTO", "--out", "x.ttf"], "unknown class name"),
        (["--examples", "O=blank.png", "--out", "x.ttf"], "--examples blank.png: the picture shows no ink"),
        (["--photo", "PHOTO", "--text", "OI", "--out", "x.ttf", "--model", "arflow-mnist"], "no characters"),
    ],
)
def test_wrong_input_is_said(
    photo: Path, arguments: list[str], message: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(photo.parent)
    Image.new("L", (40, 40), 255).save("blank.png")
    assert main(["font", *(argument.replace("PHOTO", str(photo)) for argument in arguments)]) == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (photo.parent / "x.ttf").exists()


def test_sampling_like_examples_whose_classes_are_named(photo: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """`flowgression sample`: a file after CLASS=, in a folder of its class, and under its class's name are the same."""
    shown = photo.parent / "shown"
    (shown / "A").mkdir(parents=True)
    named = photo.parent / "named"
    named.mkdir()
    for target in (shown / "A" / "1.png", named / "A.png"):
        target.write_bytes(photo.read_bytes())
    drawn = []
    for number, example in enumerate((f"A={photo}", str(shown), str(named), f"B={photo}")):
        out = photo.parent / f"{number}.npz"
        command = ["sample", "--model", "arflow-glyphs", "--examples", example, "--class-labels", "g", "R"]
        assert main([*command, "--example-guidance-scale", "2", *STEPS[:2], "--out", str(out)]) == 0
        with np.load(out) as content:
            assert content["labels"].tolist() == [CHARACTERS.index("g"), CHARACTERS.index("R")]
            drawn.append(content["arr_0"])
    np.testing.assert_array_equal(drawn[0], drawn[1])
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert (drawn[0] != drawn[3]).any()  # what an example shows matters
    capsys.readouterr()
    command = ["sample", "--model", "arflow-glyphs", "--out", str(photo.parent / "x.npz"), "--examples"]
    for wrong, message in (
        ([f"A={photo}", str(photo)], "not said which class"),
        ([f"Ä={photo}"], "unknown class name"),
    ):
        assert main([*command, *wrong]) == 2
        assert message in " ".join(capsys.readouterr().err.split())
