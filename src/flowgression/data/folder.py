"""Image folders: a subfolder per class, images anywhere below it; loose images of one class; or a metadata.csv that
names labels and groups.
"""

import csv
import os
import warnings
from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowgression.classes import Classes, in_natural_order
from flowgression.data.config import DataConfig
from flowgression.data.source import ImageSource, Unreadable, attempt, file_crc32, in_threads, joined_crc32
from flowgression.documents import check_regular
from flowgression.errors import InputError, did_you_mean, reading

SUFFIXES = frozenset(
    {
        ".png", ".jpg", ".jpeg", ".jpe", ".jfif", ".webp", ".avif", ".bmp", ".gif", ".tif", ".tiff",
        ".ppm", ".pgm", ".pbm", ".pnm", ".jp2",
    }
)  # fmt: skip
METADATA = "metadata.csv"
LAYOUTS = ("class/group", "group/class")
SPLITS = {
    "train": "train", "training": "train", "test": "test", "testing": "test", "val": "validation",
    "valid": "validation", "validation": "validation", "extra": "extra",
}  # fmt: skip
"""Names of folders, in any case, that are parts of a data set and no classes."""
JUNK = frozenset({"__macosx", "$recycle.bin", "system volume information", "lost+found", "#recycle", "@eadir"})
"""Folders that computers make of themselves: thumbnails, resource forks, what was deleted."""


class FolderSource(ImageSource):
    """The image files `paths` [N] below `root`."""

    def __init__(
        self, root: Path, paths: NDArray[np.str_], labels: NDArray[np.int64], classes: Classes | Sequence[str]
    ) -> None:
        super().__init__(str(root), labels, classes)
        self._root = root
        self._paths = paths  # relative to root; one array, since a million str objects would be copied by workers

    def skipped(self) -> dict[str, int]:
        return skipped_files(self._root)

    def files_crc32(self) -> int:
        """As in `ImageSource`; where files lie does not matter."""

        def read(index: int) -> int | Unreadable:
            return attempt(file_crc32, self._root / str(self._paths[index]))

        return joined_crc32(in_threads(read, len(self), f"Comparing {self.title}"))

    def name(self, index: int) -> str:
        return str(self._paths[index])

    def open(self, index: int) -> Image.Image:
        return Image.open(check_regular(self._root / str(self._paths[index])))

    def select(self, kept: NDArray[np.int64]) -> Self:
        return type(self)(self._root, self._paths[kept], self.labels[kept], self.classes)


def open_folder(path: Path, config: DataConfig) -> FolderSource:
    """Find the images of a folder by their file endings; classes are its subfolders, 2 before 10.

    A folder of loose images is one class, of the folder's name; beside class folders they are left out with a warning.
    Hidden files and folders and those of `JUNK` are passed over. A folder that holds one folder alone, which holds the
    class folders, is its wrapper. Where all subfolders have names of `SPLITS`, they hold the class folders.
    `config.group_by` "class/group" says that the folders in a class folder are groups, "group/class" that it is the
    other way round. A metadata.csv says all of this itself, see `open_metadata`.

    Raises:
        InputError: unknown split, no images, or no folders of groups where they are asked for.
    """
    root = _unwrapped(_split_root(_unwrapped(path, config), config.split), config)
    if (root / METADATA).is_file():
        return open_metadata(root, config)
    if config.group_by is not None and config.group_by not in LAYOUTS:
        raise InputError(
            f"data.group_by is {config.group_by!r}; of a folder without {METADATA} expected {' or '.join(LAYOUTS)}"
        )
    folders = _subfolders(root)
    loose = image_names(root)
    if loose and not any(_images_below(folder, root) for folder in folders):
        labels = np.zeros(len(loose), dtype=np.int64)
        return FolderSource(root, np.array(loose), labels, [root.resolve().name or "pictures"])
    if not folders:
        raise InputError(
            f"{root} holds no images and no class folders; expected images, or one subfolder of images per class, such "
            f"as {root / 'cat' / '1.png'}"
        )
    if loose:
        warnings.warn(
            f"{root}: {len(loose)} images beside the class folders belong to no class and are left out, the first "
            f"{loose[0]}.",
            stacklevel=2,
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
    paths = [file for found in filled.values() for file in found]
    labels = np.repeat(np.arange(len(filled)), [len(found) for found in filled.values()]).astype(np.int64)
    if config.group_by is None:
        return FolderSource(root, np.array(paths), labels, list(filled))
    inner = [_inner_folder(root, file, config.group_by) for file in paths]
    outer = [list(filled)[label] for label in labels]
    classes, groups = (outer, inner) if config.group_by == "class/group" else (inner, outer)
    return _labelled(root, paths, classes, groups)


def open_metadata(root: Path, config: DataConfig) -> FolderSource:
    """The images of a folder that its metadata.csv lists, as Hugging Face's ImageFolder reads it.

    Columns: file_name (relative to the folder), label or `config.label_column`, and for groups `config.group_by`, or
    group if there is such a column. Classes are the labels, 2 before 10.

    Raises:
        InputError: a column is missing, a value is empty, or a file is outside of the folder.
    """
    path = root / METADATA
    with (
        reading(path, "save it as CSV in UTF-8 with a line of column names"),
        path.open(newline="", encoding="utf-8-sig") as file,
    ):
        rows = list(csv.DictReader(file))
    known = list(rows[0]) if rows else []
    label = config.label_column or "label"
    group = config.group_by or ("group" if "group" in known else None)
    for column, name in (("file_name", "file_name"), ("data.label_column", label), ("data.group_by", group)):
        if name is not None and name not in known:
            raise InputError(f"{path} has no column {name!r} ({column}); {did_you_mean(name, known)}")
    wanted = [name for name in ("file_name", label, group) if name is not None]
    for number, row in enumerate(rows, start=2):
        if empty := [name for name in wanted if not (row[name] or "").strip()]:
            raise InputError(f"{path}, line {number}: {empty[0]} is empty; give every image one")
        if not (root / row["file_name"]).resolve().is_relative_to(root.resolve()):
            raise InputError(f"{path}, line {number}: {row['file_name']!r} is outside of the folder {root}")
    paths, classes = ([row[name] for row in rows] for name in ("file_name", label))
    return _labelled(root, paths, classes, None if group is None else [row[group] for row in rows])


def _labelled(root: Path, paths: list[str], classes: list[str], groups: list[str] | None) -> FolderSource:
    names = in_natural_order(set(classes))
    number = {name: label for label, name in enumerate(names)}
    labels = np.array([number[name] for name in classes], dtype=np.int64)
    return FolderSource(root, np.array(paths), labels, names).group_by(groups)


def _inner_folder(root: Path, file: str, layout: str) -> str:
    """The second folder of "outer/inner/image.png"."""
    parts = Path(file).parts
    if len(parts) < 3:
        raise InputError(f"data.group_by is {layout!r}, but {root / file} is in no folder below {root / parts[0]}")
    return parts[1]


def _split_root(path: Path, split: str) -> Path:
    names = [folder.name for folder in _subfolders(path)]
    if names and all(name.lower() in SPLITS for name in names):
        kind = SPLITS.get(split.lower(), split)
        fitting = [split] if split in names else [name for name in names if SPLITS[name.lower()] == kind]
        if not fitting:
            raise InputError(f"{path} has no split {split!r}; {did_you_mean(split, names)}")
        if len(fitting) > 1:
            raise InputError(f"{path} has several folders for split {split!r}: {', '.join(fitting)}; name one of them")
        return path / fitting[0]
    if split != "train":
        raise InputError(
            f"{path} has no split {split!r}: it holds class folders, so all of it is the split train; "
            f"for several splits give it subfolders such as {path / 'train'} and {path / 'test'}"
        )
    return path


def _subfolders(path: Path) -> list[Path]:
    return sorted(folder for folder in path.iterdir() if folder.is_dir() and not is_junk(folder.name))


def is_junk(name: str) -> bool:
    """Whether a file or folder is hidden, or made by a computer for itself: .DS_Store, ._photo.png, @eaDir."""
    return name.startswith(".") or name.lower() in JUNK


def _unwrapped(path: Path, config: DataConfig) -> Path:
    """The folder of the class folders or splits below `path`, where every folder on the way holds one folder alone."""
    place = path
    while config.group_by is None and not (place / METADATA).is_file() and not image_names(place):
        inside = _subfolders(place)
        if len(inside) != 1:
            return place if sum(bool(_images_below(folder, place)) for folder in inside) > 1 else path
        if inside[0].name.lower() in SPLITS:
            return place
        place = inside[0]
    return place if (place / METADATA).is_file() else path  # a class whose images lie deeper


def image_names(path: Path) -> list[str]:
    """Names of the image files directly in a folder, in order."""
    names = (entry.name for entry in os.scandir(path) if entry.is_file() and not is_junk(entry.name))
    return sorted(name for name in names if os.path.splitext(name)[1].lower() in SUFFIXES)


def skipped_files(root: Path) -> dict[str, int]:
    """How many files below `root` are taken for no images, by the reason: their ending, or the folder they are in."""
    found: Counter[str] = Counter()
    for place, folders, names in os.walk(root):
        for name in [name for name in folders if is_junk(name)]:
            inside = sum(len(files) for _, _, files in os.walk(os.path.join(place, name)))
            found[f"in {name}"] += inside
            folders.remove(name)
        for name in names:
            ending = os.path.splitext(name)[1].lower()
            if is_junk(name):
                found["hidden"] += 1
            elif ending not in SUFFIXES and name != METADATA:
                found[f"ending in {ending}" if ending else "without an ending"] += 1
    return {reason: count for reason, count in found.items() if count}


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
        folders[:] = [name for name in folders if not is_junk(name)]
        found += [
            os.path.relpath(os.path.join(place, name), root)
            for name in names
            if not is_junk(name) and os.path.splitext(name)[1].lower() in SUFFIXES
        ]
    return sorted(found)


def _refuse(error: OSError) -> None:
    raise error  # os.walk would pass over a folder that it cannot list, and its images would be missing unseen
