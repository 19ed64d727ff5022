"""Pictures into files: grids, single PNGs, npz as evaluation tools read it, GIFs; each written whole or not at all.

Letters: B images, H W C size and channels (1 or 3). Arrays of images are uint8 [B,H,W,C].
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from flowgression.errors import InputError
from flowgression.files import atomic_write

GAP = 2  # pixels between the tiles of a grid


def to_uint8(images: np.ndarray) -> np.ndarray:
    """Floating images in [0, 1], of any shape, as uint8; a pipeline's "np" output becomes its "pil" output exactly."""
    return (np.asarray(images) * 255).round().astype(np.uint8)


def to_pil(image: np.ndarray) -> Image.Image:
    """uint8 [H,W,C] as a picture of mode L (C = 1) or RGB (C = 3).

    Raises:
        InputError: another type or number of channels.
    """
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[-1] not in (1, 3):
        raise InputError(f"expected uint8 [H,W,1] or [H,W,3]; got {image.dtype} of shape {list(image.shape)}.")
    return Image.fromarray(image[..., 0] if image.shape[-1] == 1 else image)


def make_grid(
    images: np.ndarray, columns: int, *, scale: int = 1, row_names: Sequence[str] | None = None
) -> Image.Image:
    """Images [B,H,W,C] uint8 in rows of `columns`, white gaps between them.

    Args:
        scale: every pixel becomes scale x scale pixels.
        row_names: captions to the left of the rows; at least as many as there are rows.

    Raises:
        InputError: no images, images of a wrong type, or a number below 1.
    """
    if len(images) == 0 or columns < 1 or scale < 1:
        raise InputError(
            f"a grid needs images, columns and scale of at least 1; got {len(images)}, {columns}, {scale}."
        )
    tiles = [to_pil(image) for image in images]
    width, height = (side * scale for side in tiles[0].size)
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    margin = _caption_width(row_names[:rows], height) if row_names else 0
    size = (margin + columns * (width + GAP) - GAP, rows * (height + GAP) - GAP)
    grid = Image.new(tiles[0].mode, size, "white")
    for index, tile in enumerate(tiles):
        row, column = divmod(index, columns)
        place = (margin + column * (width + GAP), row * (height + GAP))
        grid.paste(tile.resize((width, height), Image.Resampling.NEAREST), place)
    if row_names:
        draw = ImageDraw.Draw(grid)
        for row in range(rows):
            middle = row * (height + GAP) + height // 2
            draw.text((GAP, middle), row_names[row], fill="black", anchor="lm", font=_font(height))
    return grid


def class_rows(labels: Sequence[int]) -> tuple[list[int], int] | None:
    """How to lay out images so that each row holds one class.

    Args:
        labels: the class of each image, in the order of the images.

    Returns:
        The images' indices in grid order (rows in order of first appearance) and the number of columns; None if the
        classes have different numbers of images, or only one each.
    """
    members: dict[int, list[int]] = {}
    for index, label in enumerate(labels):
        members.setdefault(label, []).append(index)
    sizes = {len(group) for group in members.values()}
    if len(sizes) != 1 or sizes == {1}:
        return None
    return [index for group in members.values() for index in group], sizes.pop()


def save_png(image: Image.Image, path: str | Path) -> None:
    """Write one PNG."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def save_npz(
    images: np.ndarray, labels: Sequence[int], path: str | Path, facts: Mapping[str, Any] | None = None
) -> None:
    """Write `arr_0` uint8 [B,H,W,C] and `labels` int64 [B], the format of ADM's evaluation suite.

    Args:
        facts: how the images were made; stored as the JSON text `sampling`.

    Raises:
        InputError: images of another type, or as many labels as images are needed.
    """
    if images.dtype != np.uint8 or images.ndim != 4 or len(labels) != len(images):
        raise InputError(
            f"expected images uint8 [B,H,W,C] and B labels; got {images.dtype} of shape {list(images.shape)} "
            f"and {len(labels)} labels."
        )
    texts: dict[str, Any] = {} if facts is None else {"sampling": np.array(json.dumps(facts))}
    with atomic_write(path) as file:
        np.savez_compressed(file, arr_0=images, labels=np.asarray(labels, dtype=np.int64), **texts)


def save_gif(frames: Sequence[Image.Image], path: str | Path, *, seconds: float = 3.0, hold: float = 1.5) -> None:
    """Write an endless GIF whose frames together last `seconds`, the last one `hold` seconds longer.

    Raises:
        InputError: no frames.
    """
    if not frames:
        raise InputError("a GIF needs at least one frame.")
    each = max(20, round(seconds * 1000 / len(frames) / 10) * 10)  # GIF counts in hundredths of a second
    durations = [each] * (len(frames) - 1) + [each + round(hold * 1000)]
    with atomic_write(path) as file:
        frames[0].save(file, format="GIF", save_all=True, append_images=frames[1:], duration=durations, loop=0)


def _font(height: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size=max(10, min(16, height // 3)))


def _caption_width(names: Sequence[str], height: int) -> int:
    font = _font(height)
    return int(max(font.getlength(name) for name in names)) + 4 * GAP
