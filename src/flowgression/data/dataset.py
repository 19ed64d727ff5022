"""Labelled images as a torch map-style data set, held in memory or decoded when needed.

Letters: N images in the data set, n of them in one request, C channels, H = W = image_size.
"""

from abc import abstractmethod
from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset


class LabeledImages(Dataset[Tensor]):
    """Square images of equal size, each with a class.

    `dataset[(index, flip)]` is float32 [C, H, W] in [-1, 1] (uint8 / 127.5 - 1), mirrored left to right if `flip`;
    `dataset.batch(indices, flips)` is the same for many at once.

    Attributes:
        labels: int64 [N], values in 0..num_classes - 1.
        class_names: The classes' names in the order of the labels.
        channels: 1 (grey) or 3 (RGB).
        image_size: Height and width in pixels.
        in_memory: Whether images come from memory; worker processes are then of no use.
    """

    in_memory: bool

    def __init__(self, labels: NDArray[np.int64], class_names: Sequence[str], channels: int, image_size: int) -> None:
        self.labels = np.asarray(labels, dtype=np.int64)
        self.class_names = list(class_names)
        self.channels = channels
        self.image_size = image_size

    @property
    def num_classes(self) -> int:
        return len(self.class_names)

    @abstractmethod
    def pixels(self, indices: Sequence[int]) -> Tensor:
        """The images `indices` [n] as they are: uint8 [n, C, H, W]."""

    def batch(self, indices: Sequence[int], flips: Sequence[bool]) -> Tensor:
        """The images `indices` [n], mirrored where `flips` [n] says so: float32 [n, C, H, W] in [-1, 1]."""
        images = self.pixels(indices).float().div_(127.5).sub_(1.0)
        mirrored = torch.tensor(flips, dtype=torch.bool)
        if mirrored.any():
            images[mirrored] = images[mirrored].flip(-1)
        return images

    def __getitem__(self, item: tuple[int, bool]) -> Tensor:
        index, flip = item
        return self.batch([index], [flip])[0]

    def __len__(self) -> int:
        return len(self.labels)


class MemoryImages(LabeledImages):
    """Images held as one uint8 array `images` [N, 1 or C, H, W]; a single channel is repeated to `channels`."""

    in_memory = True

    def __init__(
        self,
        images: NDArray[np.uint8],
        labels: NDArray[np.int64],
        class_names: Sequence[str],
        channels: int,
    ) -> None:
        super().__init__(labels, class_names, channels, images.shape[-1])
        self._images = torch.from_numpy(images).expand(-1, channels, -1, -1)

    def pixels(self, indices: Sequence[int]) -> Tensor:
        return self._images[torch.as_tensor(indices, dtype=torch.int64)]
