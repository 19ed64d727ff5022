"""Free sets of colour pictures to try training on, in folders by class; none is shipped.

    python tools/pictures.py emoji|photos|flags [--out DIR]

emoji: the pictures of Noto Color Emoji (SIL Open Font License 1.1) without skin tones, in the nine groups of Unicode,
128 x 128. photos: 1,200 square crops, 96 x 96, of photographs that come with the desktops MATE and Plasma (CC BY-SA,
CC BY, LGPL; see the packages' copyright files). flags: of countries, loose, 100 pixels wide (public domain).

emoji and photos come from Debian packages (needs apt-get, dpkg-deb and no rights), flags from one of npm (needs npm).
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PHOTOS = {
    "flowers": ("mate/nature/FreshFlower", "mate/nature/Garden", "mate/nature/YellowFlower", "mate/nature/TwoWings"),
    "green": ("mate/nature/Blinds", "mate/nature/GreenMeadow", "mate/nature/RainDrops", "OneStandsOut"),
    "leaves": ("FallenLeaf",),
    "sky": ("Kite", "mate/nature/Storm", "summer_1am", "DarkestHour"),
    "water": ("EveningGlow", "BytheWater", "Volna"),
}
CROPS = 240  # of a class
CROP_SIZE = 96
EMOJI_SIZE = 109  # the one size of the font's bitmaps
SKIN_TONES = range(0x1F3FB, 0x1F400)


def debian(*packages: str, into: Path) -> None:
    """Unpack Debian packages, without installing them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # apt reads it as another user
        subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for file in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, into], check=True)


def emoji(out: Path) -> None:
    """Render every emoji that unicode-data calls fully qualified, but for skin tones."""
    with tempfile.TemporaryDirectory() as folder:
        debian("fonts-noto-color-emoji", "unicode-data", into=Path(folder))
        font = ImageFont.truetype(next(Path(folder).rglob("NotoColorEmoji.ttf")), EMOJI_SIZE)
        lines = next(Path(folder).rglob("emoji-test.txt")).read_text(encoding="utf-8").splitlines()
        for group, points in listed_emoji(lines):
            image = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
            ImageDraw.Draw(image).text((0, 0), "".join(map(chr, points)), font=font, embedded_color=True)
            square = image.crop((4, 0, 132, 128))
            if square.getextrema()[3][1] == 0:  # the font has none
                continue
            file = out / group / ("-".join(f"{point:x}" for point in points) + ".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            square.save(file)


def listed_emoji(lines: list[str]) -> Iterator[tuple[str, list[int]]]:
    """(group, code points) of the lines of emoji-test.txt."""
    group = ""
    for line in lines:
        if line.startswith("# group: "):
            group = line.removeprefix("# group: ").replace(" & ", "-").replace(" ", "-").lower()
        elif match := re.match(r"([0-9A-F ]+); fully-qualified", line):
            points = [int(point, 16) for point in match[1].split()]
            if not any(point in SKIN_TONES for point in points):
                yield group, points


def photos(out: Path) -> None:
    """Cut squares of a third to the whole of the height out of each photograph, the same for everybody."""
    with tempfile.TemporaryDirectory() as folder:
        debian("mate-backgrounds", "plasma-workspace-wallpapers", into=Path(folder))
        for name, sources in PHOTOS.items():
            (out / name).mkdir(parents=True, exist_ok=True)
            for source in sources:
                cut(largest(Path(folder), source), out / name, CROPS // len(sources))


def largest(folder: Path, source: str) -> Path:
    """The largest picture of this name."""
    pattern = f"{source}.jpg" if "/" in source else f"wallpapers/{source}/contents/images/*"
    files = [file for file in folder.rglob(pattern) if file.is_file() and not file.is_symlink()]
    return max(files, key=lambda file: file.stat().st_size)


def cut(photo: Path, out: Path, count: int) -> None:
    """`count` crops of a photograph."""
    draw = random.Random(photo.stem)
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    for index in range(count):
        side = round(min(image.size) * draw.uniform(0.33, 1))
        left, top = (draw.randint(0, length - side) for length in image.size)
        crop = image.crop((left, top, left + side, top + side)).resize((CROP_SIZE, CROP_SIZE), Image.Resampling.LANCZOS)
        crop.save(out / f"{photo.parents[2].name}-{photo.stem}-{index:03d}.png")


def flags(out: Path) -> None:
    """The flags, 100 pixels wide."""
    with tempfile.TemporaryDirectory() as folder:
        command = ["npm", "pack", "--silent", "svg-country-flags@1.2.10"]
        subprocess.run(command, cwd=folder, check=True, stdout=subprocess.DEVNULL)
        (archive,) = Path(folder).glob("*.tgz")
        subprocess.run(["tar", "-xzf", archive], cwd=folder, check=True)
        out.mkdir(parents=True, exist_ok=True)
        for file in sorted((Path(folder) / "package" / "png100px").glob("*.png")):
            file.replace(out / file.name)


SETS: dict[str, Callable[[Path], None]] = {"emoji": emoji, "photos": photos, "flags": flags}


def main() -> int:
    """Fetch one set. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("set", choices=SETS)
    parser.add_argument("--out", type=Path, help="folder, by default the name of the set")
    args = parser.parse_args()
    out = args.out or Path(args.set)
    if out.exists():
        print(f"{out} exists already; name another folder with --out", file=sys.stderr)
        return 2
    SETS[args.set](out)
    counts = {child.name: len(list(child.iterdir())) for child in sorted(out.iterdir()) if child.is_dir()}
    print(f"{out}: " + (", ".join(f"{name} {count}" for name, count in counts.items()) or f"{len(list(out.iterdir()))}"))
    return 0


if __name__ == "__main__":
    sys.exit(main())
