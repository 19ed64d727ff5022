"""What one pass over a set of images leaves behind: moments, sums for the Inception Score, a sample of the features.

Letters: N images, D features, E spatial features, G groups, K classes, L classes of the extractor, M kept images.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowgression.classes import Classes
from flowgression.errors import InputError
from flowgression.evaluation.features.base import Extractor, ExtractorInfo
from flowgression.evaluation.gaussian import Gaussian, Moments
from flowgression.evaluation.images import ImageSet
from flowgression.evaluation.inception_score import ScoreSums

NUM_GROUPS = 20
KEPT = 10_000
MOST_MOMENT_BYTES = 512 * 2**20


@dataclass
class Statistics:
    """A set of images as metrics see it.

    Attributes:
        title: what the user called the set.
        extractor: whose features these are; None where a file does not say.
        gaussian: of all images; None for fewer than two.
        classes: the same for each label that has two images or more; empty where classes are unknown.
        names: of the classes, where they are known.
        kept: float32 [M,D], features of M images drawn at random; None where a file has none.
        moments: the sums in groups, for bootstrapping; None if read from a file.
        scores: the sums behind the Inception Score; None if read from a file or without logits.
        spatial: of the spatial features [N,E] of all images; None where the extractor has none.
        facts: what a report says about the set.
    """

    title: str
    extractor: ExtractorInfo | None
    gaussian: Gaussian | None
    classes: dict[int, Gaussian] = field(default_factory=dict)
    names: Classes = field(default_factory=lambda: Classes([]))
    kept: Tensor | None = None
    moments: Moments | None = None
    scores: ScoreSums | None = None
    spatial: Gaussian | None = None
    facts: dict[str, Any] = field(default_factory=dict)

    @property
    def count(self) -> int | None:
        """Number of images, where known."""
        return self.facts.get("num_images")

    @property
    def num_features(self) -> int | None:
        """D, where there is anything to read it from."""
        if self.gaussian is not None:
            return len(self.gaussian.mean)
        return None if self.kept is None else self.kept.shape[1]


def collect(
    images: ImageSet,
    extractor: Extractor,
    *,
    batch_size: int = 250,
    num_groups: int = NUM_GROUPS,
    keep: int = KEPT,
    seed: int = 0,
    progress: Callable[[int], None] | None = None,
) -> Statistics:
    """Read all images once.

    Args:
        batch_size: images that go through the extractor at once.
        num_groups: G; every image falls into one of so many groups of equal size at random, which stand for single
            images when the sampling error is estimated.
        keep: of how many images the features are kept, drawn without replacement. They and the sums are all that is
            held in memory, so it does not grow with N.
        seed: decides the groups and the kept images.
        progress: progress(images done) after each batch.

    Raises:
        InputError: images that cannot be read, or an extractor that does not fit.
    """
    number = len(images)
    random = torch.Generator().manual_seed(seed)
    num_groups = min(num_groups, number)
    groups = torch.cat([torch.randperm(num_groups, generator=random) for _ in range(-(-number // num_groups))])[:number]
    rows = torch.randperm(number, generator=random)[:keep]
    place = torch.full((number,), -1).scatter_(0, rows, torch.arange(len(rows)))  # where a kept image's features go
    moments, scores, kept, places = None, None, None, None
    labels, done = None if images.labels is None else torch.from_numpy(images.labels), 0
    for batch in images.batches(batch_size):
        features, logits, spatial = extractor(batch)
        here = slice(done, done + len(batch))
        if moments is None or kept is None:
            num_classes = _separate_classes(labels, num_groups, features.shape[1])
            moments = Moments(num_classes, num_groups, features.shape[1])
            kept = torch.empty(len(rows), features.shape[1])
            scores = None if logits is None else ScoreSums(num_groups, logits.shape[1])
            places = None if spatial is None else Moments(1, 1, spatial.shape[1])
        separate = labels is not None and len(moments.counts) > 1
        classes = labels[here] if separate and labels is not None else torch.zeros(len(batch), dtype=torch.int64)
        moments.update(features, classes, groups[here])
        if scores is not None and logits is not None:
            scores.update(logits, groups[here])
        if places is not None and spatial is not None:
            one_cell = torch.zeros(len(batch), dtype=torch.int64)
            places.update(spatial, one_cell, one_cell)
        chosen = place[here] >= 0
        kept[place[here][chosen]] = features[chosen].float()
        done += len(batch)
        if progress is not None:
            progress(done)
    if moments is None:
        raise InputError(f"{images.title} holds no images; nothing can be evaluated")
    found = {label: moments.gaussian(label=label) for label in range(len(moments.counts))}
    per_class = {label: gaussian for label, gaussian in found.items() if gaussian is not None}
    return Statistics(
        title=images.title,
        extractor=extractor.info,
        gaussian=moments.gaussian(),
        classes=per_class if len(found) > 1 else {},
        names=images.classes,
        kept=kept,
        moments=moments,
        scores=scores,
        spatial=None if places is None else places.gaussian(),
        facts={**images.facts, "num_images": number},
    )


def _separate_classes(labels: Tensor | None, num_groups: int, num_features: int) -> int:
    """How many classes are kept apart; 1 where labels are unknown or the sums would not fit into memory."""
    if labels is None or int(labels.min()) < 0:
        return 1
    num_classes = int(labels.max()) + 1
    return num_classes if num_classes * num_groups * num_features**2 * 8 <= MOST_MOMENT_BYTES else 1
