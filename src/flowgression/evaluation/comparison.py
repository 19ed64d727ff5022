"""Two sets of images compared: all metrics, their intervals, and what limits them.

Letters: n images, D features, G groups, R replicates.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor

from flowgression.classes import Classes
from flowgression.errors import InputError
from flowgression.evaluation.features.base import ExtractorInfo
from flowgression.evaluation.gaussian import Gaussian, distance_to, factor, frechet_distance
from flowgression.evaluation.kid import kernel_distance
from flowgression.evaluation.manifold import NEIGHBOURS, covered
from flowgression.evaluation.statistics import Statistics

METRICS = ("fid", "kid", "inception_score", "precision", "recall")
SFID = "sfid"  # a metric of extractors with spatial features only
KID_IMAGES = 5000
GAUSSIAN_ONLY = "has mean and covariance only, no features of single images"
CONFIDENCE = 0.95


@dataclass(frozen=True)
class Estimate:
    """A metric with its interval, or the reason why there is none.

    Attributes:
        value: the metric; None if it cannot be computed.
        interval: 95 % bootstrap interval, or None.
        reason: why value is None.
    """

    value: float | None
    interval: tuple[float, float] | None = None
    reason: str = ""


@dataclass
class Comparison:
    """What `compare` found.

    Attributes:
        estimates: by the names in METRICS; "sfid" too where the samples have spatial features.
        per_class: FID of each class that both sets have, by the class's name.
        notes: what limits these numbers, in sentences.
        facts: settings of the comparison.
    """

    estimates: dict[str, Estimate]
    per_class: dict[str, float]
    notes: list[str]
    facts: dict[str, Any] = field(default_factory=dict)


def compare(samples: Statistics, reference: Statistics, *, num_replicates: int = 200, seed: int = 0) -> Comparison:
    """All metrics of `samples` (as `collect` made them) against `reference`.

    Intervals say how much the metrics would move with other samples of the same model. The reference is taken as it
    is, except for recall, whose images are those of the reference.

    Args:
        num_replicates: R resamplings for each interval; 0 leaves intervals out.
        seed: decides the resamplings.

    Raises:
        InputError: features of different extractors.
    """
    check_same_features(samples, reference)
    random = torch.Generator().manual_seed(seed)
    estimates = {
        "fid": _fid(samples, reference, num_replicates, random),
        "kid": _kid(samples, reference, num_replicates, random),
        "inception_score": _inception_score(samples, num_replicates, random),
        "precision": _coverage(samples.kept, reference.kept, num_replicates, random, "reference"),
        "recall": _coverage(reference.kept, samples.kept, num_replicates, random, "samples"),
    }
    if samples.spatial is not None:
        estimates[SFID] = _sfid(samples.spatial, reference)
    pairs, unpaired = pair_classes(samples, reference)
    per_class = {
        title: frechet_distance(samples.classes[ours], reference.classes[theirs])
        for title, (ours, theirs) in pairs.items()
    }
    facts = {"bootstrap_replicates": num_replicates, "bootstrap_seed": seed, "neighbours": NEIGHBOURS}
    return Comparison(estimates, per_class, _notes(samples, reference) + unpaired, facts)


def check_same_features(samples: Statistics, reference: Statistics) -> None:
    """InputError unless both sets went through the same extractor, as far as the files tell."""
    if samples.extractor is not None:
        check_extractor(samples.extractor, reference)
    if samples.num_features != reference.num_features:
        raise InputError(
            f"{samples.title} has {samples.num_features} features, {reference.title} {reference.num_features}: they "
            "come from different extractors; choose the one of the statistics by --features"
        )


def check_extractor(extractor: ExtractorInfo, reference: Statistics) -> None:
    """InputError if the reference says that its features are another extractor's."""
    other = reference.extractor
    if other is not None and (extractor.name, extractor.fingerprint) != (other.name, other.fingerprint):
        raise InputError(
            f"{reference.title} holds features of {other.name!r} (weights {other.fingerprint}), the samples' are of "
            f"{extractor.name!r} (weights {extractor.fingerprint}); features of different extractors cannot be "
            f"compared: use --features {other.name}, or make the statistics again with `flowgression reference`"
        )


def _fid(samples: Statistics, reference: Statistics, replicates: int, random: torch.Generator) -> Estimate:
    if samples.gaussian is None or reference.gaussian is None:
        few = samples if samples.gaussian is None else reference
        return Estimate(None, reason=f"{few.title} has fewer than two images")
    b = reference.gaussian
    root = factor(b.covariance)

    def distance(a: Gaussian) -> float:
        return distance_to(b.mean, b.covariance.trace(), root, a)

    moments = samples.moments
    if moments is None:
        return Estimate(distance(samples.gaussian))

    def replicate() -> float | None:
        weights = _resampled(moments.counts.shape[1], random)
        gaussian = moments.gaussian(torch.bincount(weights, minlength=moments.counts.shape[1]).double())
        return None if gaussian is None else distance(gaussian)

    return _estimate(distance(samples.gaussian), replicate, replicates)


def _sfid(samples: Gaussian, reference: Statistics) -> Estimate:
    """Without an interval: the sums of 2,023 spatial features in 20 groups would take as much memory as all others."""
    if reference.spatial is None:
        return Estimate(None, reason=f"{reference.title} has no spatial features; make it again with these features")
    return Estimate(frechet_distance(samples, reference.spatial))


def _kid(samples: Statistics, reference: Statistics, replicates: int, random: torch.Generator) -> Estimate:
    for one in (samples, reference):
        if one.kept is None:
            return Estimate(None, reason=f"{one.title} {GAUSSIAN_ONLY}")
        if len(one.kept) < 2:
            return Estimate(None, reason=f"{one.title} has fewer than two images")
    assert samples.kept is not None
    assert reference.kept is not None
    x, y = samples.kept[:KID_IMAGES], reference.kept[:KID_IMAGES]
    columns = [torch.ones(len(x))]
    for _ in range(replicates):
        columns.append(torch.bincount(_resampled(len(x), random), minlength=len(x)).float())
    value, *others = kernel_distance(x, y, torch.stack(columns, dim=1)).tolist()
    return Estimate(value, _interval(value, others))


def _inception_score(samples: Statistics, replicates: int, random: torch.Generator) -> Estimate:
    scores = samples.scores
    if scores is None:
        return Estimate(None, reason=f"the features of {samples.title} come without class predictions")
    return _estimate(scores.score(), lambda: scores.score(_resampled(len(scores.counts), random)), replicates)


def _coverage(
    points: Tensor | None, centres: Tensor | None, replicates: int, random: torch.Generator, what: str
) -> Estimate:
    if points is None or centres is None:
        return Estimate(None, reason=f"the reference {GAUSSIAN_ONLY}")
    if len(centres) <= NEIGHBOURS or len(points) == 0:
        return Estimate(None, reason=f"the {what} must have more than {NEIGHBOURS} images, and have {len(centres)}")
    inside = covered(points, centres).double()
    value = inside.mean().item()
    # Resampling 0s and 1s is a binomial draw.
    draws = torch.binomial(torch.full((replicates,), float(len(inside))), inside.mean().float(), generator=random)
    return Estimate(value, _interval(value, (draws / len(inside)).tolist()))


def _resampled(count: int, random: torch.Generator) -> Tensor:
    return torch.randint(count, (count,), generator=random)


def _estimate(value: float, replicate: Callable[[], float | None], replicates: int) -> Estimate:
    drawn = [replicate() for _ in range(replicates)]
    return Estimate(value, _interval(value, [entry for entry in drawn if entry is not None]))


def _interval(value: float, replicates: list[float]) -> tuple[float, float] | None:
    """The middle 95 % of the replicates, moved so that their mean is `value`.

    A resampled set has fewer distinct images, which biases distances upwards; without the move the interval could lie
    beside the value.
    """
    if len(replicates) < 2:
        return None
    drawn = torch.tensor(replicates, dtype=torch.float64)
    tails = torch.tensor([(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], dtype=torch.float64)
    low, high = (torch.quantile(drawn, tails) - drawn.mean() + value).tolist()
    return low, high


def pair_classes(samples: Statistics, reference: Statistics) -> tuple[dict[str, tuple[int, int]], list[str]]:
    """The classes that both sets have: their labels in either, by the reference's name; and notes on the others.

    A class is known by its name. Labels count only where neither set names its classes.
    """
    ours, theirs = (one.names if len(one.names) else _numbered(one) for one in (samples, reference))
    pairs = {
        theirs.titles[place]: (label, place)
        for label, place in enumerate(ours.places_in(theirs))
        if place is not None and label in samples.classes and place in reference.classes
    }
    if not samples.classes or not reference.classes:
        return pairs, []
    if not (ours.are_named or theirs.are_named):
        return pairs, ["Classes were paired by their numbers: neither set names them."]
    notes = []
    for one, names, side in ((samples, ours, 0), (reference, theirs, 1)):
        paired = {pair[side] for pair in pairs.values()}
        alone = [names.titles[label] for label in one.classes if label not in paired and label < len(names)]
        if alone:
            what = "names" if names.are_named else "numbers without names"
            few = ", ".join(alone[:5]) + (f", ... ({len(alone)} in all)" if len(alone) > 5 else "")
            notes.append(f"FID by class: {one.title} has classes that the other set has not under these {what}: {few}.")
    return pairs, notes


def _numbered(one: Statistics) -> Classes:
    return Classes.numbered(max(one.classes, default=-1) + 1)


def _notes(samples: Statistics, reference: Statistics) -> list[str]:
    notes = []
    for one in (samples, reference):
        count, features = one.count, one.num_features
        rank = None if one.gaussian is None else factor(one.gaussian.covariance).shape[1]
        if count is None:
            notes.append(f"{one.title} does not say how many images it was made of.")
        elif features is not None and count <= features:
            notes.append(
                f"{one.title} has {count} images for {features} features: its covariance is singular. FID is computed "
                "all the same, but is much too large; prefer KID, which has no bias."
            )
        elif rank is not None and features is not None and rank < features:
            notes.append(f"{one.title}: the covariance is singular, of rank {rank} for {features} features.")
        if one.extractor is None:
            notes.append(f"{one.title} does not say whose features it holds; equal extractors are taken for granted.")
    if samples.count is not None and reference.count is not None and samples.count < 10_000:
        notes.append(f"FID of {samples.count} images is biased upwards; compare it only with FIDs of equally many.")
    sizes = [tuple(one.facts.get(side) for side in ("height", "width", "channels")) for one in (samples, reference)]
    if None not in sizes[0] + sizes[1] and sizes[0] != sizes[1]:
        shown = [" x ".join(map(str, size)) for size in sizes]
        notes.append(f"samples are {shown[0]}, the reference {shown[1]}: what resizing changes counts as a difference.")
    if samples.kept is not None and reference.kept is not None:
        for name, most in (("KID", KID_IMAGES), ("precision and recall", max(len(samples.kept), len(reference.kept)))):
            used = [min(len(one.kept), most) for one in (samples, reference) if one.kept is not None]
            notes.append(f"{name}: {used[0]} samples and {used[1]} reference images drawn at random.")
    return notes
