"""`data.path: fonts:FOLDER`: the characters of all fonts below a folder, those of a font as one group."""

import hashlib
import os
import warnings
import zlib
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowgression.data.config import FONTS, DataConfig, FontsConfig
from flowgression.data.dataset import LabeledImages
from flowgression.data.fonts.augment import change, draw_changes
from flowgression.data.fonts.collect import SYSTEM_FOLDERS, Fonts, collect
from flowgression.errors import InputError, did_you_mean

SIZE = 36  # pixels where data.image_size is null
SPLITS = ("train", "test", "all")
NAMES = {
    ".": "period", ",": "comma", "!": "exclam", "?": "question", "&": "ampersand", "@": "at", "'": "quotesingle",
    "-": "hyphen", '"': "quotedbl", ":": "colon", ";": "semicolon", "(": "parenleft", ")": "parenright",
    "/": "slash", "+": "plus", "*": "asterisk", "=": "equal", "#": "numbersign", "%": "percent", "$": "dollar",
}  # fmt: skip
"""Names of classes that are no letters or digits: those of the Adobe Glyph List, since a comma separates names."""


def class_name(character: str) -> str:
    """The name of a character's class: itself for letters and digits, "comma" for ","; "uni2026" where none is known.

    >>> [class_name(character) for character in "a7,"]
    ['a', '7', 'comma']
    """
    return character if character.isalnum() else NAMES.get(character, f"uni{ord(character):04X}")


def character_of(name: str) -> str | None:
    """The character whose class has this name; None where it is the name of no character.

    >>> character_of("comma"), character_of("seven")
    (',', None)
    """
    if len(name) == 1:
        return name
    known = {value: key for key, value in NAMES.items()}
    if name in known:
        return known[name]
    return chr(int(name[3:], 16)) if name.startswith("uni") and len(name) == 7 else None


class GlyphImages(LabeledImages):
    """The characters of F fonts, white on black; labels are characters, groups are fonts.

    `dataset.batch(indices, flips, keys)` changes fonts as `FontsConfig.augment` says, by the keys of an epoch.

    Attributes:
        fonts: what the images were taken from.
    """

    in_memory = True

    def __init__(self, fonts: Fonts, config: FontsConfig, title: str, channels: int = 1) -> None:
        groups, labels = np.nonzero(fonts.present)
        names = [class_name(character) for character in config.characters]
        super().__init__(labels.astype(np.int64), names, channels, fonts.images.shape[-1])
        self.title, self.fonts = title, fonts
        self.groups, self.group_names = groups.astype(np.int64), fonts.names
        self.stochastic = config.augment > 0
        self._share = config.augment
        self._images = torch.from_numpy(fonts.images[groups, labels])[:, None]

    @cached_property
    def files_crc32(self) -> int:
        """A checksum of the glyphs as they were drawn, by which replaced fonts are noticed."""
        return zlib.crc32(self._images.numpy().data)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        return self._images[torch.as_tensor(indices, dtype=torch.int64)].expand(-1, self.channels, -1, -1).clone()

    def items(self, indices: Sequence[int], flips: Sequence[bool], keys: Sequence[int] | None = None) -> Tensor:
        images = super().items(indices, flips)
        if keys is None or not self._share:
            return images
        numbers = np.asarray(indices, dtype=np.int64)
        assert self.groups is not None
        changes = draw_changes(self._share, np.asarray(keys, dtype=np.int64), self.groups[numbers], numbers)
        return change(images[:, :1], changes).expand(-1, self.channels, -1, -1)


def open_fonts(config: DataConfig) -> GlyphImages:
    """The data set that `config` describes, with a line that says how many fonts were taken and left out.

    Raises:
        InputError: no folder, no fonts of text, an unknown split, or no family in it.
    """
    options = config.fonts
    if config.split not in SPLITS:
        raise InputError(f"fonts have no split {config.split!r}; {did_you_mean(config.split, SPLITS)}")
    folders = font_folders(config.path)
    cache = Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache").expanduser() / "flowgression" / "fonts"
    fonts = collect(folders, options.characters, config.image_size or SIZE, cache)
    kept = np.flatnonzero(in_split(fonts, config.split, options))
    if options.most_per_family is not None:
        kept = spread(kept, fonts.clusters[kept], options.most_per_family)
    if not len(kept):
        raise InputError(f"{config.path}: none of {len(fonts.names)} fonts is in split {config.split!r}")
    chosen = fonts.select(kept)
    reasons = ", ".join(f"{count} {reason}" for reason, count in fonts.left_out.items() if count)
    warnings.warn(
        f"{config.path}: split {config.split} has {len(kept)} of {len(fonts.names)} fonts, "
        f"{len(set(chosen.clusters.tolist()))} families with their copies. Left out: {reasons or 'none'}.",
        stacklevel=2,
    )
    return GlyphImages(chosen, options, f"the fonts in {', '.join(map(str, folders))}", config.channels or 1)


def font_folders(path: str) -> list[Path]:
    """The folders of "fonts:A:B" (separated as in $PATH), or those of the system for "fonts:"."""
    names = path.removeprefix(FONTS)
    if names:
        return [Path(name).expanduser() for name in names.split(os.pathsep)]
    found = [folder for name in SYSTEM_FOLDERS if (folder := Path(name).expanduser()).is_dir()]
    if not found:
        raise InputError(f"data.path {path!r}: this system has no folder of fonts; write fonts:FOLDER")
    return found


def in_split(fonts: Fonts, split: str, options: FontsConfig) -> NDArray[np.bool_]:
    """Which fonts are in a split, bool [F]: whole clusters, by a number in [0, 1) that their key and the seed make."""
    if split == "all":
        return np.ones(len(fonts.names), dtype=bool)
    digests = [hashlib.sha256(f"{options.seed}|{key}".encode()).digest() for key in fonts.keys]
    held = np.array([int.from_bytes(digest[:8], "big") / 2**64 < options.held_out for digest in digests])
    return held[fonts.clusters] == (split == "test")


def spread(fonts: NDArray[np.int64], clusters: NDArray[np.int64], most: int) -> NDArray[np.int64]:
    """At most `most` of the fonts of each cluster, evenly spread over it."""
    kept = []
    for number in np.unique(clusters):
        members = fonts[clusters == number]
        count = min(most, len(members))
        kept.append(members[np.linspace(0, len(members) - 1, count).round().astype(np.int64)])
    return np.sort(np.concatenate(kept)) if kept else fonts
