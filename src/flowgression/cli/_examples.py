"""Image files as the examples of `flowgression sample` and `flowgression font`."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowgression.cli._labels import image_labels
from flowgression.errors import InputError, reading
from flowgression.registry import family_of


def by_example(pipe: Any, args: argparse.Namespace) -> tuple[list[int], dict[str, Any]]:
    """The class of every image to make, and the keywords of a call: the examples uint8 [K,C,H,W] and their labels.

    Without classes, examples that have labels of their own are followed by one image of each class, others by as many
    images as there are examples.

    Raises:
        InputError: a model that reads no examples, no images, or what is no image.
    """
    if not family_of(pipe.transformer).reads_sequences:
        raise InputError(f"--examples: a {type(pipe.transformer).__name__} reads no image beside the one it draws.")
    files = example_files(pipe, args.examples)
    further: dict[str, Any] = {"examples": read_examples(pipe, [path for _, path in files])}
    labels = [label for label, _ in files if label is not None]
    if labels:
        further["example_labels"] = pipe.class_ids(labels)
    if labels or args.class_labels or args.label_policy != "balanced":
        return image_labels(pipe, args.class_labels, args.num_images, args.label_policy, args.seed), further
    return [pipe.transformer.config.num_classes] * (args.num_images or len(files)), further


def example_files(pipe: Any, names: Sequence[str]) -> list[tuple[str | None, Path]]:
    """Image files with the class that each shows, or None for all.

    A class is named before an equals sign (A=a.png), by the folder in which the file lies inside of the one that is
    given, or by the file's own name where all files of a folder are called like classes.

    Raises:
        InputError: no images in a folder, an unknown class, or a class for some and none for others.
    """
    from flowgression.data.folder import image_names

    def images(folder: Path) -> list[Path]:
        return [folder / name for name in image_names(folder)]

    known = pipe.classes.ids_by_name
    files: list[tuple[str | None, Path]] = []
    for name in names:
        label, equals, rest = name.partition("=")
        if equals and not Path(name).exists():
            pipe.class_ids(label)  # refuses what is no class
            files.append((label, Path(rest)))
            continue
        path = Path(name)
        found: list[tuple[str | None, Path]] = [(None, path)]
        if path.is_dir():
            folders = [each for each in sorted(path.iterdir()) if each.name in known and each.is_dir()]
            found = [(each.name, file) for each in folders for file in images(each)]
            loose = images(path)
            by_name = all(file.stem in known for file in loose)
            found += [(file.stem if by_name else None, file) for file in loose]
        if not found:
            raise InputError(f"--examples {path}: no image files are in this folder; give images of one class.")
        files += found
    if len({label is None for label, _ in files}) > 1:
        bare = next(path for label, path in files if label is None)
        raise InputError(
            f"--examples {bare}: it is not said which class it shows, but it is said of others; CLASS=FILE"
        )
    return files


def read_examples(pipe: Any, files: Sequence[Path]) -> Any:
    """Image files, cut and resized as in training: uint8 [K,C,H,W].

    Raises:
        InputError: no such file, or a file that is no image.
    """
    import numpy as np
    import torch
    from PIL import Image

    from flowgression.autoencoders.model import as_autoencoder
    from flowgression.data.transforms import to_pixels
    from flowgression.documents import check_regular

    autoencoder = as_autoencoder(pipe.vae)
    channels = autoencoder.pixel_channels or pipe.transformer.config.in_channels
    pixels = []
    for file in files:
        with reading(f"--examples {file}", "give an image file"), Image.open(check_regular(file)) as image:
            pixels.append(to_pixels(image, max(pipe.transformer.size) * autoencoder.downsampling, channels))
    return torch.from_numpy(np.stack(pixels))
