"""Image files as the examples of `flowgression sample`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowgression.cli._labels import image_labels
from flowgression.errors import InputError, reading
from flowgression.registry import family_of


def by_example(pipe: Any, args: argparse.Namespace) -> tuple[list[int], Any]:
    """The class of every image to make, and the examples uint8 [K,C,H,W]; without classes as many as examples.

    Raises:
        InputError: a model that reads no examples, no images, or what is no image.
    """
    if not family_of(pipe.transformer).reads_sequences:
        raise InputError(f"--examples: a {type(pipe.transformer).__name__} reads no image beside the one it draws.")
    examples = read_examples(pipe, args.examples)
    if args.class_labels or args.label_policy != "balanced":
        return image_labels(pipe, args.class_labels, args.num_images, args.label_policy, args.seed), examples
    return [pipe.transformer.config.num_classes] * (args.num_images or len(examples)), examples


def read_examples(pipe: Any, names: Sequence[str]) -> Any:
    """Image files, and all in folders by name, cut and resized as in training: uint8 [K,C,H,W].

    Raises:
        InputError: no such file, no images in a folder, a file that is no image.
    """
    import numpy as np
    import torch
    from PIL import Image

    from flowgression.autoencoders.model import as_autoencoder
    from flowgression.data.folder import SUFFIXES
    from flowgression.data.transforms import to_pixels
    from flowgression.documents import check_regular

    files: list[Path] = []
    for path in map(Path, names):
        inside = [path]
        if path.is_dir():
            inside = sorted(entry for entry in path.iterdir() if entry.suffix.lower() in SUFFIXES)
        if not inside:
            raise InputError(f"--examples {path}: no image files are in this folder; give images of one class.")
        files += inside
    autoencoder = as_autoencoder(pipe.vae)
    channels = autoencoder.pixel_channels or pipe.transformer.config.in_channels
    pixels = []
    for file in files:
        with reading(f"--examples {file}", "give an image file"), Image.open(check_regular(file)) as image:
            pixels.append(to_pixels(image, max(pipe.transformer.size) * autoencoder.downsampling, channels))
    return torch.from_numpy(np.stack(pixels))
