"""A part of a data set that training never sees.

N images in the data set, M of them in a part.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from flowgression.data.dataset import LabeledImages
from flowgression.errors import InputError


class Part(LabeledImages):
    """Some of the images of a data set, in its order.

    Args:
        whole: the data set. chosen: int64 [M], which of its images, rising.
    """

    def __init__(self, whole: LabeledImages, chosen: NDArray[np.int64]) -> None:
        super().__init__(whole.labels[chosen], whole.classes, whole.channels, whole.image_size)
        self.whole, self.chosen = whole, chosen
        self.with_groups(None if whole.groups is None else whole.groups[chosen], whole.group_names)
        for name in ("title", "in_memory", "max_workers", "stochastic", "skipped", "autoencoder_folder", "source"):
            setattr(self, name, getattr(whole, name))
        self.read_order = whole.read_order

    def pixels(self, indices: Sequence[int]) -> Tensor:
        return self.whole.pixels(self._of_whole(indices))

    def items(self, indices: Sequence[int], flips: Sequence[bool], keys: Sequence[int] | None = None) -> Tensor:
        return self.whole.items(self._of_whole(indices), flips, keys)

    def summary(self) -> dict[str, Any]:
        return self.whole.summary()

    def _of_whole(self, indices: Sequence[int]) -> list[int]:
        return self.chosen[np.asarray(indices, dtype=np.int64)].tolist()


def hold_out(data: LabeledImages, share: float, seed: int, *, least: int = 1) -> tuple[Part, Part]:
    """Cut a data set into what is trained on and what is held out, the same for every run of one seed.

    The share of all images is held out, at least one, and spread over the classes by their sizes; no class is held out
    whole. Of images in groups (fonts, writers) whole groups are held out, whatever their classes.

    Args:
        share: in (0, 1). least: images of each class that are held out, if these are no more than a quarter of it.

    Raises:
        InputError: there is only one image, or one group.
    """
    random = np.random.default_rng((seed, 3))
    held = np.zeros(len(data), dtype=bool)
    units = data.labels if data.groups is None else np.zeros(len(data), dtype=np.int64)
    members = np.arange(len(data)) if data.groups is None else data.groups
    of_units = [np.unique(members[units == unit]) for unit in np.unique(units)]
    counts = spread(np.array([len(names) for names in of_units]), share, random)
    for names, count in zip(of_units, counts.tolist(), strict=True):
        wanted = max(count, min(least, len(names) // 4) if least > 1 else 0)
        held |= np.isin(members, random.permutation(names)[:wanted])
    if not held.any():
        what = "in one group" if data.groups is not None else "in all"
        raise InputError(f"data.validation={share:g}: of {len(data)} images {what} none can be held out; set it to 0")
    return Part(data, np.flatnonzero(~held)), Part(data, np.flatnonzero(held))


def spread(sizes: NDArray[np.int64], share: float, random: np.random.Generator) -> NDArray[np.int64]:
    """How many of each of several sets are a share of all of them, at least one in all, and never a whole set.

    Each set gives the whole part of its own share; what is left goes to the largest rests, equal ones by lot.

    Args:
        sizes: int64 [sets].
    """
    exact, most = share * sizes, sizes - 1
    counts = np.minimum(np.floor(exact).astype(np.int64), most)
    left = max(1, round(float(exact.sum()))) - int(counts.sum())
    order = np.lexsort((random.random(len(sizes)), counts - exact))
    for unit in [unit for unit in order.tolist() if counts[unit] < most[unit]][:left]:
        counts[unit] += 1
    return counts
