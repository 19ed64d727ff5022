"""Labelled images as a torch map-style data set, held in memory or decoded when needed.

Letters: N images in the data set, n of them in one request, C channels, H = W = image_size.
"""

import warnings
from abc import abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from functools import cached_property
from pathlib import Path
from types import MappingProxyType
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from flowgression.classes import Classes, as_classes
from flowgression.data.broken import check_share
from flowgression.data.sampler import ReadOrder
from flowgression.data.source import ImageSource, Unreadable, attempt
from flowgression.errors import InputError


class LabeledImages(Dataset[Tensor]):
    """Square images of equal size, each with a class.

    `dataset[(index, flip)]` is float32 [C, H, W] in [-1, 1] (uint8 / 127.5 - 1), mirrored left to right if `flip`;
    `dataset.batch(indices, flips)` is the same for many at once. A latent cache (`LatentCache`) gives latents instead.

    Attributes:
        labels: int64 [N], values in 0..num_classes - 1.
        classes: Names and order of the classes.
        groups: int64 [N], values in 0..len(group_names) - 1: what else images share, such as a writer or a font. None
            where there is nothing of the kind.
        group_names: The groups' names; None for numbers.
        channels: 1 (grey) or 3 (RGB).
        image_size: Height and width in pixels.
        title: What to call the items in a message.
        in_memory: Whether images come from memory; worker processes are then of no use.
        max_workers: More processes that read ahead than these are of no use.
        stochastic: Whether items are drawn from distributions; `batch` then takes a key for each, see `LatentCache`.
        read_order: How an epoch goes through items that are best read as neighbours; None for any order.
        skipped: How many files were found beside the images, by the reason why they are none.
        autoencoder_folder: The AutoencoderKL that turns items into images; None where they are images.
        source: Where the images come from; None for data that no files were opened for.
    """

    title: str = "the data"
    in_memory: bool
    max_workers: int = 8
    stochastic: bool = False
    read_order: ReadOrder | None = None
    skipped: Mapping[str, int] = MappingProxyType({})
    autoencoder_folder: Path | None = None
    source: ImageSource | None = None

    groups: NDArray[np.int64] | None = None
    group_names: list[str] | None = None

    def __init__(
        self, labels: NDArray[np.int64], classes: Classes | Sequence[str], channels: int, image_size: int
    ) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)
        self.classes = as_classes(classes)
        self.channels = channels
        self.image_size = image_size

    def with_groups(self, groups: NDArray[np.int64] | None, names: Sequence[str] | None) -> Self:
        """This data set with groups [N] and their names, or with none."""
        self.groups, self.group_names = groups, None if names is None else list(names)
        return self

    @property
    def num_classes(self) -> int:
        return len(self.classes)

    @property
    def class_names(self) -> list[str]:
        """A name for each class, in the order of the labels."""
        return self.classes.titles

    @abstractmethod
    def pixels(self, indices: Sequence[int]) -> Tensor:
        """The images `indices` [n] as they are: uint8 [n, C, H, W], a new tensor."""

    def batch(self, indices: Sequence[int], flips: Sequence[bool], keys: Sequence[int] | None = None) -> Tensor:
        """The images `indices` [n], mirrored where `flips` [n] says so: float32 [n, C, H, W] in [-1, 1].

        `keys` [n] decide what is drawn at random in a `stochastic` data set; images have nothing of that kind.
        """
        return to_unit_range(self.items(indices, flips, keys))

    def items(self, indices: Sequence[int], flips: Sequence[bool], keys: Sequence[int] | None = None) -> Tensor:
        """`batch` before `to_unit_range`: images are uint8, a quarter of the memory to pass between processes."""
        images = self.pixels(indices)
        for image, flip in zip(images, flips, strict=True):  # many times faster than images[flips], a gather
            if flip:
                image.copy_(image.flip(-1))
        return images

    def describe(self) -> str:
        """A line of how many images there are of which class, and of what was passed over."""
        counts = np.bincount(self.labels, minlength=self.num_classes).tolist()
        each = [f"{name}: {count}" for name, count in zip(self.class_names, counts, strict=True)]
        few = ", ".join(each[:12]) + (f", ... ({min(counts)} to {max(counts)} of each)" if len(each) > 12 else "")
        line = f"Data: {len(self)} images in {len(each)} class{'es' * (len(each) != 1)}: {few}."
        passed = ", ".join(f"{count} {reason}" for reason, count in self.skipped.items())
        return f"{line} Files passed over: {passed}." if passed else line

    def summary(self) -> dict[str, Any]:
        """What must be the same in a run that is resumed, besides the labels."""
        return {"files_crc32": self.files_crc32}

    @cached_property
    def files_crc32(self) -> int | None:
        """The checksum of the image files, see `ImageSource`; None where there are none."""
        return None if self.source is None else self.source.files_crc32()

    def __getitem__(self, item: tuple[int, bool]) -> Tensor:
        index, flip = item
        return self.batch([index], [flip])[0]

    def __len__(self) -> int:
        return len(self.labels)


def to_unit_range(items: Tensor) -> Tensor:
    """uint8 -> float32 in [-1, 1], by x / 127.5 - 1, on the items' device; other tensors as they are. Any shape.

    Divided by a tensor: by a number, GPUs would multiply with its reciprocal, which differs in the last bit.
    """
    if items.dtype != torch.uint8:
        return items
    return items.float().div_(torch.full((), 127.5, device=items.device)).sub_(1.0)


class MemoryImages(LabeledImages):
    """Images held as one uint8 array `images` [N, 1 or C, H, W]; a single channel is repeated to `channels`."""

    in_memory = True

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        classes: Classes | Sequence[str],
        channels: int,
    ) -> None:
        super().__init__(labels, classes, channels, images.shape[-1])
        self._images = torch.from_numpy(images).expand(-1, channels, -1, -1)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        return self._images[torch.as_tensor(indices, dtype=torch.int64)]


class DecodedImages(LabeledImages):
    """Images decoded each time they are asked for.

    An image whose pixels turn out to be broken is replaced by the next readable one of its class in index order, of its
    group where there is one, so the batch stays whole and the same in every run. Each is named in a warning when it is
    met first; worker processes count together.

    Args:
        source: N images, all with a readable header.
        channels: 1 (grey) or 3 (RGB).
        image_size: Height and width after the centre crop.
        left_out: Images found broken before and left out of `source`; they count towards the limit.
        resize: As `DataConfig.resize`.

    Raises:
        InputError: on reading, when more than 1 % of the images are broken, or all of one class.
    """

    in_memory = False

    def __init__(
        self, source: ImageSource, channels: int, image_size: int, left_out: int = 0, resize: str = "bicubic"
    ) -> None:
        super().__init__(source.labels, source.classes, channels, image_size)
        self._source = source
        self._left_out = left_out
        self._resize = resize
        self._broken = torch.zeros(len(source), dtype=torch.bool).share_memory_()

    def pixels(self, indices: Sequence[int]) -> Tensor:
        # In the order of decoders, colours last, and one by one, so that one image's memory serves the next.
        images = np.empty((len(indices), self.image_size, self.image_size, self.channels), dtype=np.uint8)
        for image, index in zip(images, indices, strict=True):
            image[...] = self._read(index).transpose(1, 2, 0)
        return torch.from_numpy(images).permute(0, 3, 1, 2)

    def _read(self, index: int) -> NDArray[np.uint8]:
        for candidate in self._candidates(index):
            if self._broken[candidate]:
                continue
            pixels = attempt(lambda i: self._source.pixels(i, self.image_size, self.channels, self._resize), candidate)
            if not isinstance(pixels, Unreadable):
                return pixels
            self._mark(candidate, pixels)
        name = self.class_names[self.labels[index]]
        raise InputError(f"{self._source.title}: no image of class {name!r} can be read; repair or remove it")

    def _candidates(self, index: int) -> Iterator[int]:
        yield index
        members = np.flatnonzero(self.labels == self.labels[index])
        others = np.roll(members, -np.searchsorted(members, index, side="right"))[:-1]
        if self.groups is not None:
            others = others[np.argsort(self.groups[others] != self.groups[index], kind="stable")]
        yield from others.tolist()

    def _mark(self, index: int, why: Unreadable) -> None:
        self._broken[index] = True
        count = self._left_out + int(self._broken.sum())
        total = self._left_out + len(self)
        text = check_share(self._source.title, {self._source.name(index): why}, total, count)
        warnings.warn(f"{text} Another image of its class takes its place.", stacklevel=2)
