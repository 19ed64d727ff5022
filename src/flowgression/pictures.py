"""Pictures of any kind as 8-bit grey or RGB, the same at every door. A leaf: of this package it imports nothing."""

import numpy as np
from PIL import Image, ImageOps

ORIENTATION = 0x0112  # a tag of EXIF
GROUND = "white"  # what shows through transparent pixels


def plain(image: Image.Image, channels: int) -> Image.Image:
    """An opened picture as people see it, in 8 bits: mode L (`channels` 1) or RGB (3).

    The orientation from EXIF is applied, 16 bits become 8, transparent pixels show white, and colour becomes ITU-R 601
    luma for one channel. Of a TIFF with 32 bits, whole numbers up to 255 are taken for 8 bits.

    Raises:
        ValueError: floating-point pixels of no known range. Whatever Pillow raises for a broken file.
    """
    mode = "L" if channels == 1 else "RGB"
    bits = _bits(image)  # a copy has no tags
    if image.getexif().get(ORIENTATION, 1) != 1:
        image = ImageOps.exif_transpose(image)
    image = _to_eight_bits(image, bits)
    return image if image.mode == mode else image.convert(mode)


def _to_eight_bits(image: Image.Image, bits: int) -> Image.Image:
    if image.mode == "F":
        values = np.asarray(image)
        if not (np.isfinite(values).all() and (values == np.round(values)).all() and 1 < values.max() <= 255):
            raise ValueError("floating-point pixels have no known range; save the image with 8 or 16 bits")
        return Image.fromarray(np.clip(values, 0, 255).astype(np.uint8))
    if image.mode.startswith("I"):
        values = np.clip(np.asarray(image, dtype=np.int64), 0, 65535)
        # Pillow gives 16-bit files as "I;16" or, some formats, as "I", which is also what 32-bit TIFFs are.
        if image.mode == "I" and bits == 32 and values.max() <= 255:
            return Image.fromarray(values.astype(np.uint8))
        return Image.fromarray(np.round(values / 257).astype(np.uint8))
    if image.has_transparency_data:
        layer = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", layer.size, GROUND), layer).convert("RGB")
    return image


def _bits(image: Image.Image) -> int:
    """Bits of a sample as a TIFF says them; 16 elsewhere."""
    found = getattr(image, "tag_v2", {}).get(258, 16)
    return int(found[0] if isinstance(found, tuple) else found)
