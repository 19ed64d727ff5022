"""Free sets of colour pictures to try training on, in folders by class; none is shipped.

    python tools/pictures.py emoji|things|photos|flags|cliparts|various|unseen [--out DIR]

emoji: the pictures of Noto Color Emoji (SIL Open Font License 1.1) without skin tones, in the nine groups of Unicode,
128 x 128. things: 1,034 of them in 16 classes. photos: 1,200 square crops, 96 x 96, of photographs that come with the
desktops MATE and Plasma (CC BY-SA, CC BY, LGPL; see the packages' copyright files). flags: of countries, loose, 100
pixels wide (public domain). cliparts: 36 icons of Tango, loose, 32 x 32 (public domain); few, to be learned by heart.
various: clip art, icons and photographs, loose, 64 x 64, all that `tools/picture_features.py` reads. unseen: 120 square
crops, 256 x 256, of 13 photographs and two patterns of the desktop Lomiri (CC BY, CC BY-SA, CC0), a folder for each;
nothing in the package was trained on them.

All but the flags come from Debian packages (needs apt-get, dpkg-deb and no rights), those from one of npm (needs npm).
"""

import argparse
import random
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from PIL import Image, ImageDraw, ImageFont

PHOTOS = {
    "flowers": ("mate/nature/FreshFlower", "mate/nature/Garden", "mate/nature/YellowFlower", "mate/nature/TwoWings"),
    "green": ("mate/nature/Blinds", "mate/nature/GreenMeadow", "mate/nature/RainDrops", "OneStandsOut"),
    "leaves": ("FallenLeaf",),
    "sky": ("Kite", "mate/nature/Storm", "summer_1am", "DarkestHour"),
    "water": ("EveningGlow", "BytheWater", "Volna"),
}
THINGS = {
    "animals": ("animal-mammal", "cat-face", "monkey-face"),
    "arrows": ("arrow",),
    "birds": ("animal-bird",),
    "buildings": ("place-building",),
    "buttons": ("alphanum", "keycap"),
    "clocks": ("time",),
    "clothing": ("clothing",),
    "faces": (
        "face-smiling", "face-affection", "face-tongue", "face-hand", "face-neutral-skeptical", "face-sleepy",
        "face-unwell", "face-hat", "face-glasses", "face-concerned", "face-negative",
    ),
    "flags": ("country-flag",),
    "fruit": ("food-fruit", "food-vegetable"),
    "hearts": ("heart",),
    "people": ("person", "person-gesture", "person-role", "person-fantasy"),
    "plants": ("plant-flower", "plant-other"),
    "shapes": ("geometric",),
    "vehicles": ("transport-ground",),
    "weather": ("sky-weather",),
}  # fmt: skip
CROPS = 240  # of a class
CROP_SIZE = 96
UNSEEN_CROPS, UNSEEN_SIZE = 8, 256  # of each photograph
FEW = 36  # cliparts
EMOJI_SIZE = 109  # the one size of the font's bitmaps
SKIN_TONES = range(0x1F3FB, 0x1F400)


def debian(*packages: str, into: Path) -> None:
    """Unpack Debian packages, without installing them."""
    with tempfile.TemporaryDirectory() as folder:
        Path(folder).chmod(0o755)  # apt reads it as another user
        subprocess.run(["apt-get", "download", *packages], cwd=folder, check=True, stdout=subprocess.DEVNULL)
        for file in Path(folder).glob("*.deb"):
            subprocess.run(["dpkg-deb", "-x", file, into], check=True)


def things(out: Path) -> None:
    """The emoji of THINGS."""
    classes = {subgroup: name for name, subgroups in THINGS.items() for subgroup in subgroups}
    emoji(out, "subgroup", classes)


def emoji(out: Path, by: str = "group", classes: Mapping[str, str] | None = None) -> None:
    """Render every emoji that unicode-data calls fully qualified, but for skin tones.

    Args:
        by: what becomes a folder, "group" or "subgroup". classes: names for some of them; the others are left out.
    """
    with tempfile.TemporaryDirectory() as folder:
        debian("fonts-noto-color-emoji", "unicode-data", into=Path(folder))
        font = ImageFont.truetype(next(Path(folder).rglob("NotoColorEmoji.ttf")), EMOJI_SIZE)
        lines = next(Path(folder).rglob("emoji-test.txt")).read_text(encoding="utf-8").splitlines()
        for group, points in listed_emoji(lines, by):
            if classes is not None and group not in classes:
                continue
            image = Image.new("RGBA", (136, 128), (255, 255, 255, 0))
            ImageDraw.Draw(image).text((0, 0), "".join(map(chr, points)), font=font, embedded_color=True)
            square = image.crop((4, 0, 132, 128))
            if square.getbbox() is None:  # the font has none
                continue
            name = group if classes is None else classes[group]
            file = out / name / ("-".join(f"{point:x}" for point in points) + ".png")
            file.parent.mkdir(parents=True, exist_ok=True)
            square.save(file)


def listed_emoji(lines: list[str], by: str) -> Iterator[tuple[str, list[int]]]:
    """(group or subgroup, code points) of the lines of emoji-test.txt."""
    group = ""
    for line in lines:
        if line.startswith(f"# {by}: "):
            group = line.removeprefix(f"# {by}: ").replace(" & ", "-").replace(" ", "-").lower()
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


def cut(photo: Path, out: Path, count: int, size: int = CROP_SIZE) -> None:
    """`count` crops of a photograph."""
    draw = random.Random(photo.stem)
    with Image.open(photo) as opened:
        image = opened.convert("RGB")
    for index in range(count):
        side = round(min(image.size) * draw.uniform(0.33, 1))
        left, top = (draw.randint(0, length - side) for length in image.size)
        crop = image.crop((left, top, left + side, top + side)).resize((size, size), Image.Resampling.LANCZOS)
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


def cliparts(out: Path) -> None:
    """Icons of applications and devices, the first in the order of their names."""
    with tempfile.TemporaryDirectory() as folder:
        debian("tango-icon-theme", into=Path(folder))
        found = (Path(folder) / "usr/share/icons/Tango/32x32").glob("*/*.png")
        files = sorted(file for file in found if file.parent.name in ("apps", "devices") and not file.is_symlink())
        out.mkdir(parents=True)
        for file in files[:FEW]:
            file.replace(out / file.name)


def various(out: Path) -> None:
    """What the features for pictures were trained on."""
    import picture_features

    with tempfile.TemporaryDirectory() as folder:
        debian(*picture_features.PACKAGES, into=Path(folder))
        photos(Path(folder) / "photos")
        images, _, _ = picture_features.read(list(picture_features.gather(Path(folder))))
        out.mkdir(parents=True)
        for index, image in enumerate(images):
            Image.fromarray(image.permute(1, 2, 0).numpy()).save(out / f"{index:05d}.png")


def unseen(out: Path) -> None:
    """Crops of photographs to judge by, a folder for each."""
    with tempfile.TemporaryDirectory() as folder:
        debian("lomiri-wallpapers-16.04", into=Path(folder))
        for photo in sorted((Path(folder) / "usr/share/backgrounds").glob("*.jpg")):
            place = out / photo.stem.partition("_by_")[0]
            place.mkdir(parents=True)
            cut(photo, place, UNSEEN_CROPS, UNSEEN_SIZE)


SETS: dict[str, Callable[[Path], None]] = {
    "emoji": emoji,
    "things": things,
    "photos": photos,
    "flags": flags,
    "cliparts": cliparts,
    "various": various,
    "unseen": unseen,
}


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
    print(
        f"{out}: " + (", ".join(f"{name} {count}" for name, count in counts.items()) or f"{len(list(out.iterdir()))}")
    )
    return 0


if __name__ == "__main__":
    sys.exit(main())
