"""From any image file to uint8 pixels of one size. Pillow only."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

GREY_MODES = frozenset({"1", "L", "LA", "La", "I", "I;16", "I;16L", "I;16B", "I;16N"})
# Pillow widens the bicubic kernel when it shrinks an image, so nothing aliases.
FILTER = Image.Resampling.BICUBIC
GROUND = "white"  # what shows through transparent pixels


def centre_crop(image: Image.Image, size: int) -> Image.Image:
    """Resize the short side to `size` (bicubic with antialiasing) and crop the centre: `size` x `size`."""
    if image.size == (size, size):
        return image
    return ImageOps.fit(image, (size, size), method=FILTER)


def to_pixels(image: Image.Image, size: int, channels: int) -> NDArray[np.uint8]:
    """Decode an opened image file: uint8 [C, size, size].

    The EXIF orientation is applied, 16-bit values are scaled to 8 bits, palettes are resolved, transparency is laid
    on white, colour becomes grey by ITU-R 601 luma for `channels=1`, and the centre is cropped (`centre_crop`).

    Raises:
        ValueError: pixels are floating point, which have no known range. Whatever Pillow raises for a broken file.
    """
    # A JPEG much larger than needed is decoded at 1/2, 1/4 or 1/8 scale, still at least twice the size asked for.
    image.draft(image.mode, (2 * size, 2 * size))
    image = ImageOps.exif_transpose(image)
    image = centre_crop(_to_eight_bits(image).convert("L" if channels == 1 else "RGB"), size)
    pixels = np.asarray(image)
    return pixels[None] if channels == 1 else pixels.transpose(2, 0, 1)


def _to_eight_bits(image: Image.Image) -> Image.Image:
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.mode == "F":
        raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        ground = Image.new("RGBA", layer.size, GROUND)
        return Image.alpha_composite(ground, layer).convert("RGB")
    return image
