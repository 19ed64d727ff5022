"""Which class each image to make has."""

import json
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from flowgression.classes import Classes
from flowgression.errors import InputError, did_you_mean, reading

POLICIES = ("balanced", "random")
MOST_DEFAULT_IMAGES = 64
ONE_CLASS_IMAGES = 8  # of a model whose label says nothing


def image_labels(
    pipe: Any, wanted: Sequence[str] | None, num_images: int | None, policy: str = "balanced", seed: int = 0
) -> list[int]:
    """The class of every image to make.

    Args:
        wanted: classes to choose from, as on the command line; None for all of the model.
        num_images: N; None for one image per class (at most 64 if `wanted` is None; 8 of one class alone), or per
            line of a file.
        policy: "balanced": the classes take turns; "random": drawn by `seed`, that of image i whatever N is; else a
            file with a class for each image, of which the first N count.

    Raises:
        InputError: an unknown name, an id out of range, or a file that does not fit.
    """
    if policy not in POLICIES:
        return _labels_from_file(pipe, policy, wanted, num_images)
    if wanted is None:
        labels = list(range(len(pipe.classes)))
        usual = min(len(labels), MOST_DEFAULT_IMAGES) if len(labels) > 1 else ONE_CLASS_IMAGES
        count = num_images or usual
    else:
        labels = [label for entry in wanted for label in pipe.classes.select(entry)]
        count = num_images or len(labels)
    if policy == "balanced":
        return list(islice(cycle(labels), count))
    import numpy as np

    return [labels[index] for index in np.random.default_rng(seed).integers(len(labels), size=count).tolist()]


def _labels_from_file(pipe: Any, name: str, wanted: Sequence[str] | None, num_images: int | None) -> list[int]:
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--label-policy {name!r} is no file: {did_you_mean(name, POLICIES)}")
    if wanted is not None:
        raise InputError("--class-labels chooses classes for a policy, but --label-policy names a file of labels.")
    try:
        entries, named = _read_entries(path)
        labels = (named or pipe.classes).ids(entries)
        if named is not None:
            labels = _same_classes(labels, named, pipe.classes)
    except InputError as error:
        raise InputError(f"--label-policy {path}: {error}") from error
    if num_images is not None and num_images > len(labels):
        raise InputError(f"--num-images {num_images}, but {path} has {len(labels)} labels.")
    return labels[:num_images]


def _same_classes(labels: list[int], named: Classes, classes: Classes) -> list[int]:
    """The labels of a file that names its classes, as labels of a model."""
    places = named.places_in(classes)
    missing = next((named.titles[label] for label in labels if places[label] is None), None)
    if missing is not None:
        raise InputError(f"it has images of the class {missing!r}: {did_you_mean(missing, classes.ids_by_name)}")
    return [place for label in labels if (place := places[label]) is not None]


def _read_entries(path: Path) -> tuple[Any, Classes | None]:
    """Class ids or names: `labels` of an npz, the array of an npy, or the lines of a text; and what an npz of images
    says of the classes that its labels count.
    """
    import numpy as np

    from flowgression.sampling.batches import CLASS_NAMES

    fix = "it must be an npz with `labels`, an npy with a class id for each image, or a text with one class per line."
    with reading(path, fix):
        if path.suffix not in (".npy", ".npz"):
            return [line.strip() for line in path.read_text().splitlines() if line.strip()], None
        content = np.load(path, allow_pickle=False)
        if path.suffix == ".npy":
            return content, None
        facts = json.loads(str(content["sampling"])) if "sampling" in content.files else {}
        names = facts.get(CLASS_NAMES)
        return content["labels"], None if names is None else Classes(names)
