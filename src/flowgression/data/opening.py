"""`open_dataset`: the built-in digits, image folders, Hugging Face data sets and latent caches behind one name."""

import difflib
import warnings
from pathlib import Path

import numpy as np
import torch

from flowgression.data.broken import check_share, warn_left_out
from flowgression.data.config import FONTS, MNIST_CLASSES, DataConfig
from flowgression.data.dataset import DecodedImages, LabeledImages, MemoryImages
from flowgression.data.folder import open_folder
from flowgression.data.fonts.dataset import open_fonts
from flowgression.data.hf import is_saved_dataset, open_hub
from flowgression.data.latents.dataset import open_cache
from flowgression.data.latents.index import is_cache
from flowgression.data.many_classes import MnistClasses
from flowgression.data.mnist import CLASS_NAMES, load_mnist, resized
from flowgression.data.source import Header, ImageSource, Unreadable, decode_all, read_headers
from flowgression.errors import InputError, did_you_mean


def open_dataset(config: DataConfig) -> LabeledImages:
    """Open the data set that `config` describes and check that its images can be read.

    A folder written by `flowgression cache-latents` opens as a `LatentCache`.

    The header of every image is read first. A data set that fits into `cache_limit_mb` is then decoded once, which
    finds every broken image; they are left out with one warning that names and counts them. Of a larger data set
    only images with a broken header are left out; one whose pixels turn out to be broken later is replaced by
    another of its class (`DecodedImages`).

    Raises:
        InputError: no such data set or split, no images, no size given for images of several sizes, or more than
            1 % of the images broken.
    """
    if config.group_by is not None and _names_no_files(config.path):
        raise InputError(f"data.group_by is for folders and Hugging Face data sets, not {config.path!r}; leave it out")
    if config.path == "mnist":
        return _open_mnist(config)
    if config.path == MNIST_CLASSES:
        return MnistClasses(config.classes, config.split, config.image_size)
    if config.path.startswith(FONTS):
        return open_fonts(config)
    folder = Path(config.path).expanduser()
    if is_cache(folder):
        return open_cache(folder, config)
    if config.scaling_factor is not None:
        raise InputError(
            f"data.scaling_factor is {config.scaling_factor!r}, but data.path {config.path!r} is no latent cache; "
            "`flowgression cache-latents` makes one"
        )
    source = _open_source(config)
    dataset = open_images(source, config)
    dataset.skipped, dataset.source = source.skipped(), source
    return dataset


def open_source(config: DataConfig) -> ImageSource | None:
    """The image files that `config` names, unread; None where it names none: the digits, fonts and latent caches.

    Raises:
        InputError: there is no such data set or split, or it holds no images.
    """
    if _names_no_files(config.path) or is_cache(Path(config.path).expanduser()):
        return None
    return _open_source(config)


def _names_no_files(path: str) -> bool:
    return path in ("mnist", MNIST_CLASSES) or path.startswith(FONTS)


def open_images(source: ImageSource, config: DataConfig) -> LabeledImages:
    """The images of `source`, checked and cut as `open_dataset` does it; InputError as there."""
    results = read_headers(source)
    broken = {source.name(i): why for i, why in enumerate(results) if isinstance(why, Unreadable)}
    if broken:
        check_share(source.title, broken, len(source))  # too many are an error before anything is decoded
    headers = {i: header for i, header in enumerate(results) if isinstance(header, Header)}
    size = config.image_size or _common_size(source.title, list(headers.values()))
    channels = config.channels or (1 if all(header.grey for header in headers.values()) else 3)
    _warn_of_enlarged(source, headers, size)
    readable = source.select(np.array(list(headers)))
    groups = None if source.groups is None else source.groups[list(headers)]
    if len(readable) * channels * size**2 > config.cache_limit_mb * 2**20:
        warn_left_out(source.title, broken, len(source))
        decoded = DecodedImages(readable, channels, size, left_out=len(broken), resize=config.resize)
        return decoded.with_groups(groups, source.group_names)
    images, failed = decode_all(readable, size, channels, config.resize)
    warn_left_out(source.title, broken | {readable.name(i): why for i, why in failed.items()}, len(source))
    kept = np.delete(np.arange(len(readable)), list(failed))
    images = images[kept] if failed else images  # a copy, which most data sets can do without
    memory = MemoryImages(images, readable.labels[kept], source.classes, channels)
    return memory.with_groups(None if groups is None else groups[kept], source.group_names)


def _open_mnist(config: DataConfig) -> MemoryImages:
    images, labels = load_mnist(config.split)
    stack = resized(torch.from_numpy(images)[:, None], config.image_size)
    return MemoryImages(stack.numpy(), labels, CLASS_NAMES, config.channels or 1)


def _open_source(config: DataConfig) -> ImageSource:
    if config.path.startswith("hf:"):
        return open_hub(config)
    path = Path(config.path).expanduser()
    try:
        if path.is_dir():
            return open_hub(config) if is_saved_dataset(path) else open_folder(path, config)
    except PermissionError as error:
        raise InputError(f"data.path {config.path!r}: no permission to read {error.filename}") from error
    if path.exists():
        raise InputError(f"data.path {config.path!r} is a file; expected a folder with one folder per class")
    near = ["mnist", MNIST_CLASSES]
    if path.parent.is_dir():
        folders = [str(path.parent / entry.name) for entry in path.parent.iterdir() if entry.is_dir()]
        near += difflib.get_close_matches(str(path), folders, n=3)
    raise InputError(
        f"data.path {config.path!r} is neither mnist nor an existing folder; {did_you_mean(config.path, near)} "
        "For a data set of the Hugging Face hub write hf:NAME."
    )


def _common_size(title: str, headers: list[Header]) -> int:
    sizes = sorted({(header.width, header.height) for header in headers})
    (width, height), *others = sizes
    if not others and width == height:
        return width
    found = f"{width} x {height}" + (f" to {sizes[-1][0]} x {sizes[-1][1]}" if others else "")
    raise InputError(f"{title}: images are {found} pixels, not of one square size; set data.image_size, for example 64")


def _warn_of_enlarged(source: ImageSource, headers: dict[int, Header], size: int) -> None:
    small = [index for index, header in headers.items() if min(header.width, header.height) < size]
    if small:
        first = headers[small[0]]
        warnings.warn(
            f"{source.title}: {len(small)} of {len(source)} images are smaller than data.image_size {size} and are "
            f"enlarged, the first {source.name(small[0])} ({first.width} x {first.height}).",
            stacklevel=4,
        )
