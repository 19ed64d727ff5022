"""What can be said of a set of pictures without decoding it."""

import statistics
from collections import Counter
from dataclasses import dataclass

from flowgression.data.config import DataConfig
from flowgression.data.opening import open_dataset, open_source
from flowgression.data.source import Header, read_headers
from flowgression.errors import InputError


@dataclass(frozen=True)
class PictureFacts:
    """A set of pictures.

    Attributes:
        counts: images of each class, by name, in the order of the labels.
        grey: whether none has colours.
        transparent: whether any has transparent pixels or could have them.
        smallest, median_side, largest: of the short sides, in pixels.
        common_size: the side, where all are squares of one size; else None.
    """

    counts: dict[str, int]
    grey: bool
    transparent: bool
    smallest: int
    median_side: int
    largest: int
    common_size: int | None

    @property
    def total(self) -> int:
        """Number of images."""
        return sum(self.counts.values())


def look_at_pictures(config: DataConfig) -> PictureFacts:
    """Read the headers of all images of `config`.

    Raises:
        InputError: there are none, or none can be read.
    """
    source = open_source(config)
    if source is None:
        dataset = open_dataset(config)
        names = [str(name) for name in dataset.class_names]
        found = Counter(dataset.labels.tolist())
        counts = {name: found[index] for index, name in enumerate(names)}
        side = dataset.image_size
        return PictureFacts(counts, dataset.channels == 1, False, side, side, side, side)
    headers = [header for header in read_headers(source) if isinstance(header, Header)]
    if not headers:
        raise InputError(f"{source.title}: none of its {len(source)} images can be read")
    found = Counter(source.labels.tolist())
    sides = [min(header.width, header.height) for header in headers]
    sizes = {(header.width, header.height) for header in headers}
    return PictureFacts(
        counts={name: found[index] for index, name in enumerate(source.classes.titles)},
        grey=all(header.grey for header in headers),
        transparent=any(header.transparent for header in headers),
        smallest=min(sides),
        median_side=int(statistics.median(sides)),
        largest=max(sides),
        common_size=sides[0] if len(sizes) == 1 and len(set(next(iter(sizes)))) == 1 else None,
    )
