"""Between two images of a model: labels mixed linearly in their embeddings, noise spherically.

Letters: B images, C classes (C is the null label), R rows.
"""

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor

from flowgression.errors import InputError

LEAST_ANGLE = 1e-4  # of noises that are taken for parallel


class Between(NamedTuple):
    """A label between two classes: (1 - share) of the first one's embedding and share of the second one's."""

    first: int
    second: int
    share: float


Label = int | Between
"""What a network is asked for: a class id, or a mixture of two."""


def classes_of(labels: Sequence[Label]) -> list[int]:
    """All class ids that labels name."""
    return [number for each in labels for number in ([each] if isinstance(each, int) else [each.first, each.second])]


def labels_between(first: int, second: int, count: int) -> list[Label]:
    """`count` >= 2 labels from the class `first` to the class `second`, these included.

    Raises:
        InputError: fewer than two.
    """
    shares = _shares(count)
    if first == second:
        return [first] * count
    return [first, *(Between(first, second, share) for share in shares[1:-1]), second]


def noise_between(ends: Tensor, count: int) -> Tensor:
    """[2, ...] -> [count, ...]: along the great circle through both, so that its length stays that of noise.

    sin((1 - s) a) / sin(a) x + sin(s a) / sin(a) y, with a the angle between x and y; the ends as they are.
    """
    x, y = ends.double().flatten(1)
    cosine = float(x @ y / (x.norm() * y.norm()).clamp(min=1e-30))
    angle = math.acos(max(-1.0, min(1.0, cosine)))
    frames = []
    for share in _shares(count):
        weights = (1 - share, share)
        if math.sin(angle) > LEAST_ANGLE:
            weights = (math.sin((1 - share) * angle) / math.sin(angle), math.sin(share * angle) / math.sin(angle))
        frames.append(weights[0] * x + weights[1] * y)
    made = torch.stack(frames).to(ends.dtype).unflatten(1, ends.shape[1:])
    made[0], made[-1] = ends
    return made


def network_labels(labels: Sequence[Label], num_classes: int, device: Any) -> Tensor:
    """What a network reads as class_labels: int64 [B]; with mixtures weights of all C + 1 rows, float32 [B, C + 1]."""
    if all(isinstance(each, int) for each in labels):
        return torch.tensor(labels, device=device)
    weights = torch.zeros(len(labels), num_classes + 1)
    for row, each in enumerate(labels):
        first, second, share = Between(each, each, 0.0) if isinstance(each, int) else each
        weights[row, first] += 1 - share
        weights[row, second] += share
    return weights.to(device)


def labels_and_rows(
    labels: Sequence[Label], rows: Sequence[int], num_classes: int, device: Any
) -> tuple[Tensor, Tensor]:
    """`network_labels` and rows as int64 [R], in one transfer to the device where all labels are classes."""
    if all(isinstance(each, int) for each in labels):
        numbers = torch.tensor([*labels, *rows], device=device)
        return numbers[: len(labels)], numbers[len(labels) :]
    return network_labels(labels, num_classes, device), torch.tensor(rows, device=device)


def _shares(count: int) -> list[float]:
    if isinstance(count, bool) or not isinstance(count, int) or count < 2:
        raise InputError(f"an interpolation has 2 or more frames, both ends among them, not {count!r}.")
    return [step / (count - 1) for step in range(count)]
