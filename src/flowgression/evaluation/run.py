"""One evaluation from start to end: open both sets, read their features, compare."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from flowgression.errors import InputError
from flowgression.evaluation.comparison import check_extractor, compare
from flowgression.evaluation.cost import Cost
from flowgression.evaluation.features.base import Extractor
from flowgression.evaluation.features.choice import WRONG, choose_features, warning_about
from flowgression.evaluation.features.names import DIGIT_FEATURES, PICTURE_FEATURES, closed_name
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import ArrayImages, ImageSet, NpzImages, open_image_set
from flowgression.evaluation.report import flat_report
from flowgression.evaluation.statistics import KEPT, Statistics, collect
from flowgression.evaluation.storage import is_statistics, load_statistics, with_own_moments

Images = str | Path | NDArray[np.uint8] | ImageSet
Reference = Images | Statistics


@dataclass(frozen=True)
class Evaluation:
    """What `evaluate` found.

    Attributes:
        report: everything on one level, as `flowgression evaluate --json` writes it: "fid", "kid", "precision", ...
        samples, reference: the statistics of both sets, for plots and for further comparisons.
    """

    report: dict[str, Any]
    samples: Statistics
    reference: Statistics


def evaluate(
    samples: Images,
    reference: Reference,
    *,
    features: str | Extractor | None = None,
    image_size: int | None = None,
    num_replicates: int = 200,
    batch_size: int = 250,
    keep: int = KEPT,
    seed: int = 0,
    device: torch.device | str = "cpu",
    cost: Cost | None = None,
    progress: Callable[[ImageSet, int], None] | None = None,
) -> Evaluation:
    """Compare images with a reference: FID, KID, Inception Score, precision, recall, and FID of each class.

    Args:
        samples: uint8 [N,H,W,C] in memory, an open `ImageSet`, or a name as on the command line: X.npz, a folder,
            mnist:test, hf:NAME:SPLIT, with [a:b] behind it for a part.
        reference: likewise, or statistics: in memory, X.safetensors of `flowgression reference`, or X.npz with mu and
            sigma.
        features: name of the extractor (see `load_extractor`), or one that is loaded; by default that of the
            statistics, where it is one of those built in, or what `features.choice` picks for the images.
        image_size: resize data sets and folders to this side first.
        num_replicates: resamplings for each 95 % interval; 0 leaves intervals out.
        batch_size: images in the extractor at once.
        keep: images whose features serve KID, precision and recall.
        seed: decides which images those are, and the resamplings.
        device: where the extractor computes.
        cost: what making the samples cost, for the report.
        progress: called with a set and the number of its images that are done.

    Raises:
        InputError: images or statistics that cannot be opened, or features of different extractors.
    """
    against = open_reference(reference, image_size)
    extractor = extractor_for(against, features, device)
    images = _opened(samples, image_size)

    def read(one: ImageSet, **options: Any) -> Statistics:
        report = None if progress is None else lambda done: progress(one, done)
        return collect(one, extractor, batch_size=batch_size, keep=keep, seed=seed, progress=report, **options)

    found = read(images)
    known = against if isinstance(against, Statistics) else read(against, num_groups=1)
    if isinstance(against, NpzImages):
        known = with_own_moments(known, against.path)
    comparison = compare(found, known, num_replicates=num_replicates, seed=seed)
    comparison.notes[:0] = _warnings(extractor, images, against)
    return Evaluation(flat_report(comparison, found, known, cost, feature_seed=seed, keep=keep), found, known)


def _warnings(extractor: Extractor, samples: ImageSet, reference: Statistics | ImageSet) -> list[str]:
    """What the extractor cannot judge, said first in the report and as a warning."""
    name = extractor.info.name
    found = [warning_about(name, one) for one in (samples, reference) if isinstance(one, ImageSet)]
    said = [text for text in found if text is not None]
    loud = [text for text in said if text.startswith(WRONG)]
    for text in loud[:1]:
        warnings.warn(text, stacklevel=3)
    if name == PICTURE_FEATURES:
        said.append(f"Distances of {name} compare with distances of {name} only, not with published FIDs.")
    return said


def open_reference(reference: Reference, image_size: int | None = None) -> Statistics | ImageSet:
    """Statistics where the name is that of a file with some, else the images; InputError if there are none."""
    if isinstance(reference, Statistics):
        return reference
    if isinstance(reference, str | Path):
        path = Path(reference).expanduser()
        if is_statistics(path):
            return load_statistics(path)
    return _opened(reference, image_size)


def extractor_for(
    reference: Statistics | ImageSet,
    features: str | Extractor | None,
    device: torch.device | str,
    weights: str | Path | None = None,
) -> Extractor:
    """The extractor to compare with `reference` by, `weights` from a file where they are not at their usual place.

    Statistics say by which extractor they were made. That name comes from a file, so it is followed only to the
    extractors that are built in; one of your own is asked for by `features`.

    Raises:
        InputError: there is none of that name, or the reference holds features of another one.
    """
    known = reference.extractor if isinstance(reference, Statistics) else None
    if features is None and known is not None:
        features = closed_name(known.name, reference.title, f"say it yourself: --features {known.name}")
    if features is None and isinstance(reference, ImageSet):
        features = choose_features(reference)
    if not isinstance(features, Extractor):
        features = load_extractor(features or DIGIT_FEATURES[0], weights, device)
    if isinstance(reference, Statistics):
        check_extractor(features.info, reference)
    return features


def _opened(images: Images, image_size: int | None) -> ImageSet:
    if isinstance(images, ImageSet):
        return images
    if isinstance(images, np.ndarray):
        if images.dtype != np.uint8 or images.ndim != 4 or images.shape[-1] not in (1, 3):
            raise InputError(f"images must be uint8 [N,H,W,1 or 3]; got {images.dtype} {list(images.shape)}.")
        return ArrayImages("images in memory", images)
    if is_statistics(Path(images).expanduser()):
        raise InputError(f"{images} holds statistics; give the images (only the reference may be without them).")
    return open_image_set(str(images), image_size)
