"""From any image file to uint8 pixels of one size, by Pillow."""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from PIL import Image, ImageOps

from flowgression.pictures import plain

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
# Pillow widens the bicubic kernel when it shrinks an image, so nothing aliases.
FILTER = Image.Resampling.BICUBIC


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size` (bicubic with antialiasing) and crop the centre: `size` x `size`."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), method=FILTER)


def adm_crop(image: Image.Image, size: int) -> Image.Image:
    """The centre crop of ADM (arXiv 2105.05233), with which the released SiT and ARFlow were trained.

    The image is halved by box filters while its short side is at least 2 `size`, resized by the bicubic filter, and
    cropped at whole pixels.
    """
    while min(image.size) >= 2 * size:
        image = image.resize((image.width // 2, image.height // 2), Image.Resampling.BOX)
    scale = size / min(image.size)
    image = image.resize((round(image.width * scale), round(image.height * scale)), FILTER)
    left, top = (image.width - size) // 2, (image.height - size) // 2
    return image.crop((left, top, left + size, top + size))


def fast_crop(pixels: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """[H, W, C] -> [size, size, C]: cropped at whole pixels, then torch's antialiased bicubic filter.

    Weights are rounded otherwise than in Pillow's filter: a pixel differs by 2 of 255 at most.
    """
    height, width = pixels.shape[:2]
    side = min(height, width)
    top, left = (height - side) // 2, (width - side) // 2
    square = torch.from_numpy(pixels)[top : top + side, left : left + side].permute(2, 0, 1)[None]
    resized = F.interpolate(square, size=(size, size), mode="bicubic", antialias=True)
    return resized[0].permute(1, 2, 0).numpy()


class Resize(NamedTuple):
    """How images become square.

    Attributes:
        draft: a JPEG is decoded at 1/2, 1/4 or 1/8 scale (fewer coefficients of its cosine transform) where its sides
            stay at least this many times `size`; 0 always decodes it whole.
        crop: from the decoded image to `size` x `size`; None is `fast_crop`, of its pixels.
    """

    draft: int
    crop: Callable[[Image.Image, int], Image.Image] | None


RESIZE = {
    "bicubic": Resize(2, centre_crop),
    "fast": Resize(1, None),
    "adm": Resize(0, adm_crop),
}


def to_pixels(image: Image.Image, size: int, channels: int, resize: str = "bicubic") -> NDArray[np.uint8]:
    """Decode an opened image file: uint8 [C, size, size], in general not contiguous.

    Its pixels are those of `pictures.plain`, and the centre is cropped as `RESIZE[resize]` says.

    Raises:
        ValueError: pixels are floating point, which have no known range. Whatever Pillow raises for a broken file.
    """
    how = RESIZE[resize]
    if how.draft:
        image.draft(image.mode, (how.draft * size, how.draft * size))
    image = plain(image, channels)
    pixels = np.array(image) if how.crop is None else np.asarray(how.crop(image, size))  # torch wants a copy
    pixels = pixels.reshape(*pixels.shape[:2], channels)
    if pixels.shape[:2] != (size, size):
        pixels = fast_crop(pixels, size)
    return pixels.transpose(2, 0, 1)
