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

    Of each class the share is held out, to the nearest whole number; of images in groups (fonts, writers) whole groups
    are, whatever their classes.

    Args:
        share: in (0, 1). least: images of each class that are held out, if these are no more than a quarter of it.

    Raises:
        InputError: nothing would be held out, or nothing left.
    """
    random = np.random.default_rng((seed, 3))
    held = np.zeros(len(data), dtype=bool)
    units = data.labels if data.groups is None else np.zeros(len(data), dtype=np.int64)
    members = np.arange(len(data)) if data.groups is None else data.groups
    for unit in np.unique(units):
        names = np.unique(members[units == unit])
        count = max(round(share * len(names)), min(least, len(names) // 4) if least > 1 else 0)
        held |= np.isin(members, random.permutation(names)[:count])
    if held.all() or not held.any():
        raise InputError(
            f"data.validation={share:g} of {len(data)} images holds {'all' if held.all() else 'none'} out; "
            "choose another share, or 0 for none"
        )
    return Part(data, np.flatnonzero(~held)), Part(data, np.flatnonzero(held))
