"""All fonts of some folders, each once, with what is a copy of what.

Letters: F fonts, C characters, H = W = size in pixels.
"""

import hashlib
import os
import re
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowgression.data.fonts.render import FORMATS, LEAST, Face, render_file
from flowgression.data.source import Unreadable, attempt, in_threads
from flowgression.errors import InputError
from flowgression.files import atomic_write

VERSION = 1  # of the pictures; another makes all caches anew
SYSTEM_FOLDERS = (
    *("/usr/share/fonts", "/usr/local/share/fonts", "~/.local/share/fonts", "~/.fonts"),
    *("/Library/Fonts", "/System/Library/Fonts", "~/Library/Fonts", "C:/Windows/Fonts"),
)
SIDE = 12  # pixels of the pictures by which fonts are compared
COPY = 0.02  # mean squared difference of two fonts' letters, of 1, below which one is a near copy of the other
SYMBOLS = 0.1  # share of the letters that must be nearest to the mean of their own kind
STYLES = re.compile(
    r"\b(thin|hairline|ultra ?light|extra ?light|light|book|regular|text|medium|demi|semi ?bold|demi ?bold|bold|"
    r"extra ?bold|ultra ?bold|heavy|black|ultra|(semi|extra|ultra)? ?condensed|narrow|(semi|extra)? ?expanded|wide|"
    r"italic|oblique|roman|outline|shadow|inline|solid|small ?caps|alternates?|mono|[ivx]+|[0-9.]+)\b"
)


class Fonts(NamedTuple):
    """F different fonts.

    Attributes:
        names: "Family, style", no two equal.
        clusters: int64 [F]: fonts of one family, and those that look almost alike, have one number.
        keys: of each cluster the name that decides its split, stable when other fonts are added.
        images: uint8 [F, C, H, W], 0 the ground and 255 the ink.
        present: bool [F, C].
        left_out: how many faces were left out, by reason.
    """

    names: list[str]
    clusters: NDArray[np.int64]
    keys: list[str]
    images: NDArray[np.uint8]
    present: NDArray[np.bool_]
    left_out: dict[str, int]

    def select(self, kept: NDArray[np.int64]) -> "Fonts":
        """The same with the fonts `kept` [.] only; clusters keep their numbers."""
        names = [self.names[index] for index in kept]
        return Fonts(names, self.clusters[kept], self.keys, self.images[kept], self.present[kept], self.left_out)


def find_files(folders: Sequence[Path]) -> list[Path]:
    """Font files anywhere below the folders, by their endings, in order of their names; links are passed over.

    Raises:
        InputError: no such folder, or no font in any of them.
    """
    found = []
    for folder in folders:
        if not folder.is_dir():
            raise InputError(f"data.path: there is no folder {folder} of fonts; give one that holds .ttf or .otf files")
        for place, _, names in os.walk(folder):
            paths = [Path(place) / name for name in names if os.path.splitext(name)[1].lower() in FORMATS]
            found += [path for path in paths if not path.is_symlink()]
    if not found:
        raise InputError(
            f"data.path: no fonts are below {', '.join(map(str, folders))}; expected files that end in "
            f"{', '.join(sorted(FORMATS))}"
        )
    return sorted(found)


def collect(folders: Sequence[Path], characters: str, size: int, cache: Path | None = None) -> Fonts:
    """Draw and sort out all fonts below the folders.

    Left out and counted are files that FreeType cannot read, faces with too few of the characters or of symbols (too
    few letters are nearest to the mean of their own kind), and faces whose pictures are those of another.

    Args:
        characters: C different ones. size: in pixels.
        cache: where pictures are kept for the next time; None keeps none.

    Raises:
        InputError: no folder, no fonts, or none of text.
    """
    files = find_files(folders)
    stamp = hashlib.sha256(repr((VERSION, characters, size)).encode())
    for path in files:
        stamp.update(f"{path.name}|{path.stat().st_size}|{path.stat().st_mtime_ns}\n".encode())
    kept = None if cache is None else cache / f"{stamp.hexdigest()[:24]}.npz"
    if kept is not None and kept.is_file():
        return _load(kept)
    fonts = sort_out(draw_all(files, characters, size), characters)
    if kept is not None:
        _save(kept, fonts)
    return fonts


def draw_all(files: Sequence[Path], characters: str, size: int) -> list[Face | None]:
    """Every face of every file; None for a file that is no font."""

    def draw(index: int) -> list[Face] | Unreadable:
        return attempt(lambda i: render_file(files[i], characters, size), index)

    results = in_threads(draw, len(files), "Drawing fonts")
    return [face for found in results for face in ([None] if isinstance(found, Unreadable) else found)]


def sort_out(faces: Sequence[Face | None], characters: str) -> Fonts:
    """The fonts of text among the faces, each once, and their clusters; InputError if there are none."""
    left_out: Counter[str] = Counter()
    seen: set[bytes] = set()
    kept: list[Face] = []
    for face in faces:
        if face is None:
            left_out["unreadable"] += 1
        elif face.present.mean() < LEAST:
            left_out["too few of the characters"] += 1
        elif (digest := hashlib.sha256(face.images.tobytes()).digest()) in seen:
            left_out["drawn by another font too"] += 1
        else:
            seen.add(digest)
            kept.append(face)
    if not kept:
        raise InputError(f"no font has half of the characters {characters!r}; left out: {dict(left_out)}")
    images, present = np.stack([face.images for face in kept]), np.stack([face.present for face in kept])
    small = shapes(images)
    legible = letters_told_apart(small, present, characters) >= SYMBOLS
    left_out["symbols"] += int((~legible).sum())
    chosen = np.flatnonzero(legible)
    kept, small, present = [kept[index] for index in chosen], small[chosen], present[chosen]
    families = [family_key(face.family) for face in kept]
    clusters = cluster(families, distances(small, present) < COPY)
    keys = [min(families[index] for index in np.flatnonzero(clusters == c)) for c in range(clusters.max() + 1)]
    return Fonts(_unique(kept), clusters, keys, images[chosen], present, dict(left_out))


def family_key(family: str) -> str:
    """The family's name without words for weights, widths and slants: "Noto Sans Condensed Light" -> "noto sans"."""
    words = re.sub(r"(?<=[a-z])(?=[A-Z])|[-_]", " ", family).lower()
    return " ".join(STYLES.sub(" ", words).split()) or family.lower()


def shapes(images: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Glyphs [F, C, H, W] without their place and size: [F, C, SIDE * SIDE] in [0, 1], each stretched to a square."""
    count, characters, _, _ = images.shape
    result = np.zeros((count, characters, SIDE * SIDE), dtype=np.float32)
    for f in range(count):
        for c in range(characters):
            rows, columns = (np.flatnonzero(images[f, c].max(axis=axis) > 64) for axis in (1, 0))
            if len(rows) and len(columns):
                box = (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1)
                picture = Image.fromarray(images[f, c]).resize((SIDE, SIDE), Image.Resampling.BOX, box=box)
                result[f, c] = np.asarray(picture, dtype=np.float32).ravel() / 255
    return result


def letters_told_apart(small: NDArray[np.float32], present: NDArray[np.bool_], characters: str) -> NDArray[np.float64]:
    """Of each font the share of its characters that are most like the mean of their own kind, of any case: [F].

    Compared by correlation, so that weight counts little.
    """
    centred = small - small.mean(-1, keepdims=True)
    centred /= np.maximum(np.linalg.norm(centred, axis=-1, keepdims=True), 1e-6)
    means = centred.sum(0)  # those that a font does not have are zero
    means /= np.maximum(np.linalg.norm(means, axis=-1, keepdims=True), 1e-6)
    nearest = (centred @ means.T).argmax(-1)
    kinds = np.array([ord(character.lower()) for character in characters])
    return ((kinds[nearest] == kinds) & present).sum(1) / present.sum(1)


def distances(small: NDArray[np.float32], present: NDArray[np.bool_]) -> NDArray[np.float32]:
    """Mean squared difference of every two fonts over the characters that both have: [F, F], inf where none."""
    count, _, pixels = small.shape
    values = (small * present[..., None]).reshape(count, -1)
    has = present.astype(np.float32)
    squares = (small**2).sum(-1) * has
    both = has @ has.T
    total = squares @ has.T + has @ squares.T - 2 * values @ values.T
    return np.where(both > 0, np.maximum(total, 0) / np.maximum(both, 1) / pixels, np.inf).astype(np.float32)


def cluster(families: Sequence[str], near: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Numbers from 0 for fonts [F]: one for those that share a family or are near, also by way of others."""
    parent = list(range(len(families)))

    def root(index: int) -> int:
        while parent[index] != index:
            parent[index] = parent[parent[index]]
            index = parent[index]
        return index

    first: dict[str, int] = {}
    for index, family in enumerate(families):
        parent[root(index)] = root(first.setdefault(family, index))
    for left, right in np.argwhere(np.triu(near, 1)).tolist():
        parent[root(left)] = root(right)
    return np.unique([root(index) for index in range(len(families))], return_inverse=True)[1].astype(np.int64)


def _unique(faces: Sequence[Face]) -> list[str]:
    names: Counter[str] = Counter()
    result = []
    for face in faces:
        name = f"{face.family}, {face.style}"
        names[name] += 1
        result.append(name if names[name] == 1 else f"{name} ({names[name]})")
    return result


def _save(path: Path, fonts: Fonts) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    reasons = np.array(list(fonts.left_out)), np.array(list(fonts.left_out.values()))
    with atomic_write(path) as file:
        np.savez_compressed(
            file,
            names=np.array(fonts.names),
            clusters=fonts.clusters,
            keys=np.array(fonts.keys),
            images=fonts.images,
            present=fonts.present,
            reasons=reasons[0],
            counts=reasons[1],
        )


def _load(path: Path) -> Fonts:
    with np.load(path, allow_pickle=False) as arrays:
        left_out = dict(zip(arrays["reasons"].tolist(), arrays["counts"].tolist(), strict=True))
        names, keys = arrays["names"].tolist(), arrays["keys"].tolist()
        return Fonts(names, arrays["clusters"], keys, arrays["images"], arrays["present"], left_out)
