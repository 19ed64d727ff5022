"""Has a model learned its training images by heart? Its samples beside the training images nearest to them.

N samples, M training images, H held-out ones, all uint8 [*, H, W, C]. Distances are root mean squares over all pixel
values, 0 to 255, or over the features of a network.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from flowgression.errors import InputError

CHUNK = 512  # images whose distances to all others are held at once
NEAR = 4  # of them, found roughly, whose distances are then computed exactly
EXPECTED = 0.05


@dataclass(frozen=True)
class Nearest:
    """What `nearest_images` found.

    Attributes:
        indices: of each sample's nearest training image, [N].
        distances: to it, [N].
        of_new: from each held-out image to the nearest training image, [H]; where none are held out, from each training
            image to the nearest other one, [M].
        threshold: the distance that a share of EXPECTED of `of_new` lies below.
        share: of the samples that lie nearer to a training image than `threshold`.
    """

    indices: NDArray[np.int64]
    distances: NDArray[np.float32]
    of_new: NDArray[np.float32]
    threshold: float
    share: float

    @property
    def looks_copied(self) -> bool:
        """Whether more samples than chance explains (three standard deviations) are so near.

        Both sides are counted: that the samples are few, and that those are few of which the threshold is made.
        """
        deviation = (EXPECTED * (1 - EXPECTED) * (1 / len(self.indices) + 1 / len(self.of_new))) ** 0.5
        return self.share > EXPECTED + 3 * deviation


def nearest_images(
    samples: NDArray[np.uint8],
    training: NDArray[np.uint8],
    held_out: NDArray[np.uint8] | None = None,
    features: Callable[[torch.Tensor], torch.Tensor] | None = None,
) -> Nearest:
    """The nearest training image of each sample, and how near images that are new come to training images.

    New images are those held out of training. Where there are none, training images stand for them, each among the
    others. A twentieth of them is nearer to a training image than `threshold`: were samples new images, `share` would
    be about 0.05. Where it is far above, samples are copies. Training images that are there twice count once.

    Args:
        features: uint8 [n, C, H, W] -> float [n, D], which are compared instead of pixels: they find copies that are
            moved or in other colours.

    Raises:
        InputError: images of other shapes, no samples, or less than two different training images.
    """
    if samples.shape[1:] != training.shape[1:]:
        raise InputError(f"samples are {samples.shape[1:]} and training images {training.shape[1:]}; resize them first")
    kept = np.sort(np.unique(training.reshape(len(training), -1), axis=0, return_index=True)[1])
    if len(kept) < 2 or not len(samples):
        raise InputError(f"{len(samples)} samples and {len(kept)} different training images; expected 1 and 2 at least")
    rows, others = _described(samples, features), _described(training[kept], features)
    distances, indices = _nearest(rows, others)
    if held_out is None:
        of_new, _ = _nearest(others, others, itself=False)
    else:
        of_new, _ = _nearest(_described(held_out, features), others)
    threshold = float(np.quantile(of_new, EXPECTED))
    share = float((distances < threshold).mean())
    return Nearest(kept[indices], distances, of_new, threshold, share)


def _described(images: NDArray[np.uint8], features: Callable[[torch.Tensor], torch.Tensor] | None) -> torch.Tensor:
    """float32 [n, D]: the pixels, or the features."""
    if features is None:
        return torch.from_numpy(np.ascontiguousarray(images.reshape(len(images), -1))).float()
    planes = torch.from_numpy(np.ascontiguousarray(images.transpose(0, 3, 1, 2)))
    return torch.cat([features(part).float() for part in planes.split(CHUNK)])


def _nearest(
    rows: torch.Tensor, others: torch.Tensor, *, itself: bool = True
) -> tuple[NDArray[np.float32], NDArray[np.int64]]:
    """Distance and index of the nearest of `others` for each row; with itself=False row i is not compared with i.

    The few nearest are found by a product of matrices, which rounds, and the distances to these are computed exactly.
    """
    found, squares = [], others.square().sum(1)
    for start in range(0, len(rows), CHUNK):
        part = rows[start : start + CHUNK]
        rough = squares - 2 * part @ others.T
        if not itself:
            rough[torch.arange(len(part)), torch.arange(start, start + len(part))] = torch.inf
        near = rough.topk(min(NEAR, len(others) - (not itself)), dim=1, largest=False).indices
        exact = (others[near] - part[:, None]).square().sum(2).sqrt()
        least = exact.min(dim=1)
        found.append((least.values, near.gather(1, least.indices[:, None])[:, 0]))
    values, indices = (torch.cat(each) for each in zip(*found, strict=True))
    return (values / rows.shape[1] ** 0.5).numpy(), indices.numpy()
