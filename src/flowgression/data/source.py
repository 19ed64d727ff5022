"""Where encoded images come from: a list of items that can be named and opened, each with a class."""

import os
import zlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowgression.classes import Classes, as_classes
from flowgression.data.transforms import GREY_MODES, to_pixels
from flowgression.documents import check_regular
from flowgression.terminal import progress_bar

A = TypeVar("A")
T = TypeVar("T")
THREADS = 16  # reading waits for disks and Pillow releases the interpreter while it decodes
ENDS = 4096  # bytes of an image that its checksum reads at either end
CHUNK = 64  # images a thread takes at a time, so that a million images do not make a million futures


class ImageSource(ABC):
    """N encoded images with classes.

    Attributes:
        title: What to call the whole in a message.
        labels: int64 [N].
        classes: Names and order of the classes.
        groups: int64 [N], what else images share; None where there is nothing of the kind.
        group_names: The groups' names.
    """

    groups: NDArray[np.int64] | None = None
    group_names: list[str] | None = None

    def __init__(self, title: str, labels: NDArray[np.int64], classes: Classes | Sequence[str]) -> None:
        self.title = title
        self.labels = labels
        self.classes = as_classes(classes)

    def __len__(self) -> int:
        return len(self.labels)

    def group_by(self, values: Sequence[str] | None) -> Self:
        """This source with groups: images of equal values [N] are of one; None leaves it as it is."""
        if values is not None:
            names, groups = np.unique(np.array(values, dtype=np.str_), return_inverse=True)
            self.groups, self.group_names = groups.astype(np.int64), [str(name) for name in names]
        return self

    def skipped(self) -> dict[str, int]:
        """How many files were found beside the images, by the reason why they are none."""
        return {}

    @abstractmethod
    def files_crc32(self) -> int:
        """A checksum of the encoded images, in order, by which replaced ones are noticed. Broken ones count as 0."""

    @abstractmethod
    def name(self, index: int) -> str:
        """What to call one image in a message."""

    @abstractmethod
    def open(self, index: int) -> Image.Image:
        """Open one image and read its header; pixels are not decoded yet. The caller closes it."""

    @abstractmethod
    def select(self, kept: NDArray[np.int64]) -> Self:
        """The same source with the images `kept` [M] only."""

    def pixels(self, index: int, size: int, channels: int, resize: str = "bicubic") -> NDArray[np.uint8]:
        """Decode and crop one image: uint8 [C, size, size]. Raises whatever a broken file raises."""
        with self.open(index) as image:
            return to_pixels(image, size, channels, resize)


class Header(NamedTuple):
    """What the start of an image file tells."""

    width: int
    height: int
    grey: bool
    transparent: bool = False


class Unreadable(NamedTuple):
    """Why an image could not be read."""

    reason: str


def attempt(read: Callable[[A], T], image: A) -> T | Unreadable:
    """`read(image)`, or the reason why the image is broken.

    Pillow's decoders raise errors of many types for broken files (OSError, SyntaxError, ValueError, struct.error,
    IndexError and others), so every exception counts as a broken image; all are named and counted by the caller.
    """
    try:
        return read(image)
    except Exception as error:
        return Unreadable(f"{type(error).__name__}: {error}")


def read_headers(source: ImageSource) -> list[Header | Unreadable]:
    """Open every image of `source` without decoding it, in threads, with a progress bar."""

    def read(index: int) -> Header:
        with source.open(index) as image:
            grey, transparent = image.mode in GREY_MODES, image.has_transparency_data
            return Header(*image.size, grey=grey, transparent=transparent)

    return in_threads(lambda index: attempt(read, index), len(source), f"Checking {source.title}")


def decode_all(
    source: ImageSource, size: int, channels: int, resize: str = "bicubic"
) -> tuple[NDArray[np.uint8], dict[int, Unreadable]]:
    """Decode every image of `source` in threads, with a progress bar.

    Returns:
        uint8 [N, C, size, size] and the broken images by index; their pixels are zero.
    """
    images = np.zeros((len(source), channels, size, size), dtype=np.uint8)

    def read(index: int) -> None:
        images[index] = source.pixels(index, size, channels, resize)

    results = in_threads(lambda index: attempt(read, index), len(source), f"Reading {source.title}")
    return images, {index: result for index, result in enumerate(results) if result is not None}


def ends_crc32(data: memoryview) -> int:
    """The checksum of an encoded image's size and of its first and last 4 KiB; data sets can be too large for more."""
    return zlib.crc32(data[-ENDS:], zlib.crc32(data[:ENDS], len(data) % 2**32))


def file_crc32(path: Path) -> int:
    """`ends_crc32` of a file, of which no more is read."""
    with check_regular(path).open("rb") as file:
        head = file.read(ENDS)
        size = file.seek(0, os.SEEK_END)
        file.seek(max(0, size - ENDS))
        return zlib.crc32(file.read(ENDS), zlib.crc32(head, size % 2**32))


def joined_crc32(found: Sequence[int | Unreadable]) -> int:
    """One checksum of those of images."""
    return zlib.crc32(np.array([each if isinstance(each, int) else 0 for each in found], dtype="<u4").tobytes())


def in_threads(function: Callable[[int], T], count: int, title: str) -> list[T]:
    chunk = max(1, min(CHUNK, count // (4 * THREADS)))

    def run(start: int) -> list[T]:
        return [function(index) for index in range(start, min(start + chunk, count))]

    results: list[T] = []
    with ThreadPoolExecutor(THREADS) as pool, progress_bar() as progress:
        task = progress.add_task(title, total=count)
        for part in pool.map(run, range(0, count, chunk)):
            results += part
            progress.advance(task, len(part))
    return results
