"""Sets of images to be evaluated: npz files, folders and data sets behind one name, read batch by batch.

Letters: N images, B images of a batch, H W C size and channels.
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from flowgression.classes import Classes
from flowgression.data.config import MNIST_CLASSES, ClassesConfig, DataConfig
from flowgression.data.dataset import LabeledImages
from flowgression.data.folder import FolderSource, image_names, is_junk
from flowgression.data.opening import open_dataset, open_images
from flowgression.documents import parse_json
from flowgression.errors import InputError, did_you_mean, reading
from flowgression.evaluation.npz import NpzArray, read_npz_text, read_small_array
from flowgression.sampling.batches import CLASS_NAMES

FACTS_FILE = "sampling.json"  # beside the images of a folder: how they were made
DATA_FILTER = "bicubic with antialiasing, rounded to uint8"


class ImageSet(ABC):
    """N images, read in order.

    Attributes:
        title: what the user calls it.
        labels: int64 [N], or None where classes are not known.
        classes: the classes, named where names are known; none where nothing is known of them.
        facts: what is known about the images: their size, how they were resized or sampled.
    """

    title: str
    labels: NDArray[np.int64] | None
    classes: Classes
    facts: dict[str, Any]

    @abstractmethod
    def __len__(self) -> int: ...

    @abstractmethod
    def batches(self, batch_size: int) -> Iterator[Tensor]:
        """All images in order: uint8 [B,C,H,W]."""


class DatasetImages(ImageSet):
    """The images `start` to `stop` of a data set."""

    def __init__(self, title: str, dataset: LabeledImages, facts: dict[str, Any], span: slice) -> None:
        self._dataset = dataset
        self._indices = range(len(dataset))[span]
        self.title = title
        self.labels = dataset.labels[span]
        self.classes = dataset.classes
        self.facts = {**_size_facts(dataset.image_size, dataset.image_size, dataset.channels), **facts}

    def __len__(self) -> int:
        return len(self._indices)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        for start in range(0, len(self), batch_size):
            yield self._dataset.pixels(list(self._indices[start : start + batch_size]))


class UnlabeledImages(DatasetImages):
    """A folder of images without class folders."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.labels, self.classes = None, Classes([])


class NpzImages(ImageSet):
    """The images of an npz file (`arr_0` uint8 [N,H,W,C]), read from the file as they are needed."""

    def __init__(self, title: str, path: Path, span: slice) -> None:
        self.path = path
        self._array = NpzArray(path, "arr_0")
        shape, kind = self._array.shape, self._array.dtype
        if len(shape) != 4 or shape[-1] not in (1, 3) or kind != np.uint8:
            raise InputError(f"{path}: arr_0 must be uint8 [N,H,W,1 or 3]; it is {kind} {list(shape)}")
        self._rows = range(shape[0])[span]
        labels = read_small_array(path, "labels")
        if labels is None:
            labels = read_small_array(path, "arr_1")  # as guided-diffusion writes them
        if labels is not None and (labels.shape != shape[:1] or not np.issubdtype(labels.dtype, np.integer)):
            raise InputError(
                f"{path}: labels must be whole numbers [{shape[0]}]; they are {labels.dtype} {labels.shape}"
            )
        self.title = title
        self.labels = None if labels is None else labels.astype(np.int64)[span]
        text = read_npz_text(path, "sampling")
        known = _facts(f"sampling in {path}", text or "{}")
        with reading(f"class_names of sampling in {path}", "remove it, or make the images again"):
            self.classes = Classes(known.pop(CLASS_NAMES, []))
        self.facts = {**_size_facts(shape[1], shape[2], shape[3]), **known}

    def __len__(self) -> int:
        return len(self._rows)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        for part in self._array.read(self._rows.start, self._rows.stop, batch_size):
            yield torch.from_numpy(part).permute(0, 3, 1, 2)


class ArrayImages(ImageSet):
    """Images uint8 [N,H,W,C] in memory."""

    def __init__(
        self,
        title: str,
        images: NDArray[np.uint8],
        labels: Sequence[int] | None = None,
        classes: Classes | None = None,
        facts: dict[str, Any] | None = None,
    ) -> None:
        self.images = images
        self.title = title
        self.labels = None if labels is None else np.asarray(labels, dtype=np.int64)
        self.classes = classes or Classes([])
        self.facts = {**_size_facts(*images.shape[1:]), **(facts or {})}

    def __len__(self) -> int:
        return len(self.images)

    def batches(self, batch_size: int) -> Iterator[Tensor]:
        for start in range(0, len(self), batch_size):
            yield torch.from_numpy(self.images[start : start + batch_size]).permute(0, 3, 1, 2)


def open_image_set(name: str, image_size: int | None = None) -> ImageSet:
    """Open images by name.

    Args:
        name: a file X.npz; a folder of images, or of class folders; mnist or mnist:SPLIT; hf:NAME or hf:NAME:SPLIT;
            FOLDER:SPLIT; mnist-classes:SPLIT,num_classes=N,... with fields of `ClassesConfig`.
            `[a:b]` behind any of them takes the images a to b - 1.
        image_size: resize data sets and folders to this side; npz files are taken as they are.

    Raises:
        InputError: nothing there, nothing readable, images of several sizes, or none at all.
    """
    path_name, span = _split_span(name)
    path = Path(path_name).expanduser()
    if path.suffix == ".npz":
        found: ImageSet = NpzImages(name, path, span)
    else:
        facts: dict[str, Any] = {} if image_size is None else {"data_resize_filter": DATA_FILTER}
        if (path / FACTS_FILE).is_file():
            facts |= _facts(path / FACTS_FILE, (path / FACTS_FILE).read_text(errors="replace"))
        config = _data_config(path_name, image_size)
        try:
            if loose := _loose_images(path):
                source = FolderSource(path, np.array(loose), np.zeros(len(loose), dtype=np.int64), [""])
                found = UnlabeledImages(name, open_images(source, config), facts, span)
            else:
                found = DatasetImages(name, open_dataset(config), facts, span)
        except InputError as error:  # the same setting has another name on this command line
            raise InputError(str(error).replace("data.image_size", "--image-size")) from error
    if len(found) == 0:
        raise InputError(f"{name} holds no images; nothing can be evaluated")
    return found


def _data_config(name: str, image_size: int | None) -> DataConfig:
    """mnist:test -> DataConfig(path="mnist", split="test")."""
    if name.partition(":")[0] == MNIST_CLASSES:
        split, *settings = name.removeprefix(MNIST_CLASSES).removeprefix(":").split(",")
        return DataConfig(
            path=MNIST_CLASSES, split=split or "train", image_size=image_size, classes=_classes_config(name, settings)
        )
    prefix, rest = ("hf:", name.removeprefix("hf:")) if name.startswith("hf:") else ("", name)
    head, colon, split = rest.rpartition(":")
    if colon and head and not Path(rest).exists():
        return DataConfig(path=prefix + head, split=split, image_size=image_size)
    return DataConfig(path=prefix + rest, image_size=image_size)


def _classes_config(name: str, settings: Sequence[str]) -> ClassesConfig:
    """["num_classes=1000", "part=held-out"] -> ClassesConfig(num_classes=1000, part="held-out")."""
    values: dict[str, Any] = {}
    for setting in settings:
        field, _, value = setting.partition("=")
        known = list(ClassesConfig.__dataclass_fields__)
        if field not in known:
            raise InputError(f"{name}: unknown setting {setting!r}; {did_you_mean(field, known)}")
        values[field] = int(value) if value.isdecimal() else value
    return ClassesConfig(**values)


def _split_span(name: str) -> tuple[str, slice]:
    match = re.fullmatch(r"(.+)\[(\d*):(\d*)\]", name)
    if match is None:
        return name, slice(None)
    return match[1], slice(*(int(text) if text else None for text in match.groups()[1:]))


def _loose_images(path: Path) -> list[str]:
    """Image files directly in the folder `path`, sorted; none if it is no folder or has class folders."""
    if not path.is_dir() or any(entry.is_dir() and not is_junk(entry.name) for entry in path.iterdir()):
        return []
    return image_names(path)


def _facts(where: object, text: str) -> dict[str, Any]:
    """How images were made, from JSON text."""
    with reading(where, "remove it, or make the images again"):
        return {**parse_json(text)}


def _size_facts(height: int, width: int, channels: int) -> dict[str, Any]:
    return {"height": height, "width": width, "channels": channels}
