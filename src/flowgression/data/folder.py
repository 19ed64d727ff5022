"""Image folders: one subfolder per class, images anywhere below it."""

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowgression.classes import Classes, in_natural_order
from flowgression.data.source import ImageSource
from flowgression.errors import InputError, did_you_mean

SUFFIXES = frozenset(
    {".png", ".jpg", ".jpeg", ".webp", ".bmp", ".gif", ".tif", ".tiff", ".ppm", ".pgm", ".pbm", ".jp2"}
)
SPLIT_NAMES = frozenset({"train", "test", "val", "valid", "validation"})


class FolderSource(ImageSource):
    """The image files `paths` [N] below `root`."""

    def __init__(
        self, root: Path, paths: NDArray[np.str_], labels: NDArray[np.int64], classes: Classes | Sequence[str]
    ) -> None:
        super().__init__(str(root), labels, classes)
        self._root = root
        self._paths = paths  # relative to root; one array, since a million str objects would be copied by workers

    def name(self, index: int) -> str:
        return str(self._paths[index])

    def open(self, index: int) -> Image.Image:
        return Image.open(self._root / str(self._paths[index]))

    def select(self, kept: NDArray[np.int64]) -> Self:
        return type(self)(self._root, self._paths[kept], self.labels[kept], self.classes)


def open_folder(path: Path, split: str = "train") -> FolderSource:
    """Find the images of a folder by their file endings; classes are its subfolders, 2 before 10.

    Hidden files and folders are passed over. Where all subfolders of `path` are named train, test, val, valid or
    validation, they are splits and hold the class folders.

    Raises:
        InputError: unknown split, no class folders, or no images.
    """
    root = _split_root(path, split)
    folders = _subfolders(root)
    if not folders:
        loose = sum(Path(name).suffix.lower() in SUFFIXES for name in os.listdir(root))
        found = f"{loose} images but no class folders" if loose else "no class folders"
        raise InputError(
            f"{root} holds {found}; expected one subfolder of images per class, such as {root / 'cat' / '1.png'}"
        )
    files = {name: _images_below(root / name, root) for name in in_natural_order(folder.name for folder in folders)}
    empty = [name for name, found in files.items() if not found]
    if len(empty) == len(files):
        raise InputError(
            f"{root} holds no images in its folders {', '.join(empty[:10])}; "
            f"expected files that end in {', '.join(sorted(SUFFIXES))}"
        )
    if empty:
        warnings.warn(f"{root}: folders without images are no classes: {', '.join(empty)}.", stacklevel=2)
    filled = {name: found for name, found in files.items() if found}
    labels = np.repeat(np.arange(len(filled)), [len(found) for found in filled.values()]).astype(np.int64)
    return FolderSource(root, np.array([file for found in filled.values() for file in found]), labels, list(filled))


def _split_root(path: Path, split: str) -> Path:
    names = [folder.name for folder in _subfolders(path)]
    if names and SPLIT_NAMES.issuperset(names):
        if split not in names:
            raise InputError(f"{path} has no split {split!r}; {did_you_mean(split, names)}")
        return path / split
    if split != "train":
        raise InputError(
            f"{path} has no split {split!r}: it holds class folders, so all of it is the split train; "
            f"for several splits give it subfolders such as {path / 'train'} and {path / 'test'}"
        )
    return path


def _subfolders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not folder.name.startswith("."))


def _images_below(folder: Path, root: Path) -> list[str]:
    """Image files below `folder`, relative to `root`, sorted. Links to folders are followed once."""
    seen: set[str] = set()
    found = []
    for place, folders, names in os.walk(folder, onerror=_refuse, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders.clear()
            continue
        seen.add(real)
        folders[:] = [name for name in folders if not name.startswith(".")]
        found += [
            os.path.relpath(os.path.join(place, name), root)
            for name in names
            if not name.startswith(".") and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error  # os.walk would pass over a folder that it cannot list, and its images would be missing unseen
