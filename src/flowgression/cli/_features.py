"""What `evaluate` and `reference` share: their flags, and a progress bar."""

import argparse
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError

if TYPE_CHECKING:
    from flowgression.evaluation.images import ImageSet

SOURCES = """  X.npz                arr_0 uint8 [N,H,W,C] and perhaps labels [N], as `flowgression sample` writes it
  DIR/                 images, or one folder of images per class
  mnist, mnist:test    the built-in digits, all or one split; DIR:SPLIT likewise
  mnist-classes:test,num_classes=1000    the digits in many classes, with fields of data.classes
  hf:NAME:SPLIT        a data set of the Hugging Face hub
  [a:b] behind any of them takes the images a to b - 1: mnist:train[:50000]"""


def add_feature_arguments(parser: CommandParser) -> None:
    """The flags that decide the features."""
    add = parser.add_argument
    add(
        "--features",
        help="mnist, mnist-rgb, pictures-1, inception, or package.module:attribute of a module (that of the "
        "statistics, or what fits the pictures)",
    )
    add("--features-weights", metavar="FILE", help="weights of the features, where they are not at their usual place")
    add("--image-size", type=int, metavar="N", help="resize data sets and folders to N x N first (their own size)")
    add("--feature-batch-size", type=int, default=250, metavar="B", help="images in the extractor at once (250)")
    add(
        "--keep",
        type=int,
        default=10_000,
        metavar="M",
        help="images whose features serve KID, precision, recall (10000)",
    )
    add("--feature-seed", type=int, default=0, metavar="S", help="decides which images those are, and resampling (0)")


def check_feature_arguments(args: argparse.Namespace) -> None:
    """InputError for numbers out of range, or if the extra is not installed."""
    for name in ("image_size", "feature_batch_size", "keep"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {value}")
    check_extra()


def check_extra() -> None:
    """InputError unless what evaluation needs is installed."""
    missing = [name for name in ("torchmetrics", "scipy") if find_spec(name) is None]
    if missing:
        raise InputError(f"evaluation needs {' and '.join(missing)}: pip install 'flowgression[evaluation]'")


@contextmanager
def feature_progress() -> "Iterator[Callable[[ImageSet, int], None]]":
    """A progress bar for each set of images that goes through the extractor: called with it and the images done."""
    from flowgression.terminal import progress_bar

    tasks: dict[int, Any] = {}
    with progress_bar() as bar:

        def advance(images: "ImageSet", done: int) -> None:
            if id(images) not in tasks:
                tasks[id(images)] = bar.add_task(f"Features of {images.title}", total=len(images))
            bar.update(tasks[id(images)], completed=done)

        yield advance
