"""The picture of docs/editing.md: python tools/edits.py docs/images/edits.png

What a drawing becomes, at several strengths and as several classes; a picture with its lower half drawn anew;
variations; and the way from one class to another, by built-in models.
"""

import sys
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from flowgression import load_pipeline
from flowgression.sampling.images import make_grid, save_png, to_uint8

COLUMNS, SIDE = 8, 64


def drawing() -> Image.Image:
    """A face as somebody draws it in a minute."""
    image = Image.new("RGB", (128, 128), "white")
    draw = ImageDraw.Draw(image)
    draw.ellipse((16, 16, 112, 112), fill=(240, 200, 40))
    for left in (42, 72):
        draw.ellipse((left, 44, left + 13, 61), fill="black")
    draw.rectangle((44, 80, 86, 89), fill=(200, 30, 30))
    return image


def lower_half(size: int = 128) -> Image.Image:
    """A mask that is white below the middle."""
    mask = Image.new("L", (size, size))
    ImageDraw.Draw(mask).rectangle((0, size // 2, size, size), fill=255)
    return mask


def seeded(*seeds: int) -> list[torch.Generator]:
    """A generator for each image."""
    return [torch.Generator().manual_seed(seed) for seed in seeds]


def load(name: str) -> Any:
    """A pipeline without progress bars."""
    pipe = load_pipeline(name)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def rows() -> Iterator[tuple[str, list[Any]]]:
    """A caption and at most COLUMNS pictures each: PIL images, or arrays in [0, 1]."""
    emoji, call = load("sit-emoji"), {"num_inference_steps": 25, "output_type": "np"}
    image, mask = drawing(), lower_half()
    strengths = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9)
    faces = [emoji("faces", image=image, strength=s, generator=seeded(1), **call).images[0] for s in strengths]
    yield "a drawing, strength 0.3 to 0.9", [image, *faces]
    classes = ["fruit", "clocks", "buttons", "hearts", "plants", "flags", "weather"]
    yield (
        "as 7 classes, strength 0.7",
        [image, *emoji(classes, image=image, strength=0.7, generator=seeded(*range(7)), **call).images],
    )
    face = emoji.numpy_to_pil(emoji("faces", generator=seeded(8), **call).images)[0]
    again = emoji(["faces"] * 6, image=face, mask_image=mask, generator=seeded(*range(6)), **call).images
    yield "lower half drawn anew", [face, mask, *again]
    flag = emoji.numpy_to_pil(emoji("flags", generator=seeded(3), **call).images)[0]
    yield (
        "varied, strength 0.6",
        [flag, *emoji(image=flag, num_images_per_prompt=7, generator=seeded(*range(7)), **call).images],
    )
    yield (
        "faces to clocks",
        list(emoji.interpolate("faces", "clocks", num_frames=8, generator=seeded(8, 1), **call).images),
    )
    digits = load("arflow-mnist")
    seven = digits.numpy_to_pil(digits("seven", generator=seeded(1), **call).images)[0]
    again = digits(
        ["seven", "nine", "two", "three", "one", "four"],
        image=seven,
        mask_image=mask,
        generator=seeded(*range(6)),
        **call,
    ).images
    yield "ARFlow: lower half as 7 9 2 3 1 4", [seven, mask, *again]
    scales = load("flowar-mnist")
    yield (
        "FlowAR: three to eight",
        list(scales.interpolate("three", "eight", num_frames=8, generator=seeded(3, 4), **call).images),
    )


def tile(picture: Any) -> np.ndarray:
    """uint8 [SIDE, SIDE, 3]."""
    if not isinstance(picture, Image.Image):
        picture = Image.fromarray(to_uint8(picture).squeeze())
    filter = Image.Resampling.NEAREST if max(picture.size) < SIDE else Image.Resampling.BICUBIC
    return np.asarray(picture.convert("RGB").resize((SIDE, SIDE), filter))


def main() -> int:
    """Draw. Returns the exit status."""
    found = list(rows())
    blank = np.full((SIDE, SIDE, 3), 255, dtype=np.uint8)
    tiles = [each for _, pictures in found for each in [*map(tile, pictures), *[blank] * (COLUMNS - len(pictures))]]
    save_png(make_grid(np.stack(tiles), COLUMNS, row_names=[name for name, _ in found]), sys.argv[1])
    return 0


if __name__ == "__main__":
    sys.exit(main())
