"""The built-in MNIST digits, all 70,000 of them; source and licence are stated in files/README.md."""

from importlib.resources import as_file, files
from typing import NamedTuple

import numpy as np
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from flowgression.errors import InputError, did_you_mean

SPLITS = {"train": ("train",), "test": ("test",), "all": ("train", "test")}
CLASS_NAMES = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")


class MnistSplit(NamedTuple):
    """`images` uint8 [N, 28, 28], 0 the black ground and 255 the white ink; `labels` int64 [N] in 0..9."""

    images: NDArray[np.uint8]
    labels: NDArray[np.int64]


def load_mnist(split: str = "train") -> MnistSplit:
    """The MNIST digits in their original order.

    Args:
        split: `train` (60,000 images), `test` (10,000) or `all` (train, then test). Only the split asked for is
            decompressed.

    Raises:
        InputError: unknown split.
    """
    if split not in SPLITS:
        raise InputError(f"MNIST has no split {split!r}; {did_you_mean(split, SPLITS)}")
    packed = files("flowgression.data") / "files" / "mnist.npz"
    with as_file(packed) as path, np.load(path, allow_pickle=False) as arrays:
        images = [arrays[f"{part}_images"] for part in SPLITS[split]]
        labels = [arrays[f"{part}_labels"] for part in SPLITS[split]]
    return MnistSplit(np.concatenate(images), np.concatenate(labels).astype(np.int64))


def resized(images: Tensor, size: int | None) -> Tensor:
    """uint8 [N, C, H, W] -> [N, C, size, size], filtered as in `transforms.centre_crop` up to floating-point error."""
    if size in (None, images.shape[-1]):
        return images
    return F.interpolate(images, size=size, mode="bicubic", antialias=True)
