"""Has a model learned its training images by heart? Its samples beside the training images nearest to them.

N samples, M training images, both uint8 [*, H, W, C]. Distances are root mean squares over all pixel values, 0 to 255.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flowgression.errors import InputError

CHUNK = 512  # images whose distances to all others are held at once
EXPECTED = 0.05


@dataclass(frozen=True)
class Nearest:
    """What `nearest_images` found.

    Attributes:
        indices: of each sample's nearest training image, [N].
        distances: to it, [N].
        among_training: from each training image to the nearest other one, [M].
        threshold: the distance that a share of EXPECTED of `among_training` lies below.
        share: of the samples that lie nearer to a training image than `threshold`.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    among_training: NDArray[np.float32]
    threshold: float
    share: float

    @property
    def looks_copied(self) -> bool:
        """Whether more samples than chance explains (three standard deviations) are so near."""
        deviation = (EXPECTED * (1 - EXPECTED) / len(self.indices)) ** 0.5
        return self.share > EXPECTED + 3 * deviation


def nearest_images(samples: NDArray[np.uint8], training: NDArray[np.uint8]) -> Nearest:
    """The nearest training image of each sample, and how near training images are to each other.

    A new image of the same kind would be nearer to the M training images than a twentieth of them are to the other
    M - 1 about one time in twenty: were samples new images, `share` would be about 0.05. Where it is far above, samples
    are copies. Training images that are there twice count once.

    Raises:
        InputError: images of other shapes, no samples, or less than two different training images.
    """
    if samples.shape[1:] != training.shape[1:]:
        raise InputError(f"samples are {samples.shape[1:]} and training images {training.shape[1:]}; resize them first")
    kept = np.sort(np.unique(training.reshape(len(training), -1), axis=0, return_index=True)[1])
    if len(kept) < 2 or not len(samples):
        raise InputError(f"{len(samples)} samples and {len(kept)} different training images; expected 1 and 2 at least")
    rows, others = _flat(samples), _flat(training[kept])
    distances, indices = _nearest(rows, others)
    among, _ = _nearest(others, others, itself=False)
    threshold = float(np.quantile(among, EXPECTED))
    share = float((distances < threshold).mean())
    return Nearest(kept[indices], distances, among, threshold, share)


def _flat(images: NDArray[np.uint8]) -> torch.Tensor:
    return torch.from_numpy(np.ascontiguousarray(images.reshape(len(images), -1))).float()


def _nearest(
    rows: torch.Tensor, others: torch.Tensor, *, itself: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distance and index of the nearest of `others` for each row; with itself=False row i is not compared with i."""
    found = []
    for start in range(0, len(rows), CHUNK):
        part = torch.cdist(rows[start : start + CHUNK], others, compute_mode="donot_use_mm_for_euclid_dist")
        if not itself:
            part[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        found.append(part.min(dim=1))
    values = torch.cat([each.values for each in found]) / rows.shape[1] ** 0.5
    return values.numpy(), torch.cat([each.indices for each in found]).numpy()
