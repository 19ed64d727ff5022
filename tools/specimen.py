"""The pictures of docs/glyphs.md and README: the alphabet and the font that arflow-glyphs makes of five drawn letters.

python tools/specimen.py docs/images
"""

import sys
import tempfile
from pathlib import Path

import matplotlib
from PIL import Image, ImageDraw, ImageFont

from flowgression.cli.main import main as flowgression
from flowgression.sampling import save_png

LETTERS = Path(__file__).parents[1] / "docs" / "images" / "letters.png"
SIZE = (900, 320)


def specimen(font: Path) -> Image.Image:
    """The photo of the letters, and sentences set in the font made from them."""
    picture = Image.new("L", SIZE, 255)
    draw = ImageDraw.Draw(picture)
    with Image.open(LETTERS) as photo:
        letters = photo.convert("L")
    height = 86
    letters = letters.resize((round(letters.width * height / letters.height), height), Image.Resampling.LANCZOS)
    picture.paste(letters, (20, 8))
    plain = ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"), 17)
    draw.text((letters.width + 46, 60), "five drawn letters, and a font made from them", font=plain, fill=80)
    for top, size, text in (
        (170, 64, "Show it five letters,"),
        (245, 64, "and it draws the alphabet!"),
        (305, 42, "The quick brown fox jumps over 13 lazy dogs"),
    ):
        draw.text((20, top), text, font=ImageFont.truetype(str(font), size), fill=0, anchor="ls")
    return picture


def main() -> int:
    folder = Path(sys.argv[1])
    with tempfile.TemporaryDirectory() as temporary:
        font = Path(temporary) / "drawn.ttf"
        made = flowgression(
            ["font", "--photo", str(LETTERS), "--text", "ARges", "--out", str(font),
             "--sheet", str(folder / "glyphs-alphabet.png")]
        )  # fmt: skip
        if made == 0:
            save_png(specimen(font), folder / "glyphs-font.png")
    return made


if __name__ == "__main__":
    sys.exit(main())
