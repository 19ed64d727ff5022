"""Which class each image to make has."""

import re
from collections.abc import Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

from flowgression.errors import InputError, did_you_mean, reading

POLICIES = ("balanced", "random")
MOST_DEFAULT_IMAGES = 64


def image_labels(
    pipe: Any, wanted: Sequence[str] | None, num_images: int | None, policy: str = "balanced", seed: int = 0
) -> list[int]:
    """The class of every image to make.

    Args:
        wanted: classes to choose from, as on the command line; None for all of the model.
        num_images: N; None for one image per class (at most 64 if `wanted` is None), or per line of a file.
        policy: "balanced": the classes take turns; "random": drawn by `seed`, that of image i whatever N is; else a
            file with a class for each image, of which the first N count.

    Raises:
        InputError: an unknown name, an id out of range, or a file that does not fit.
    """
    if policy not in POLICIES:
        return _labels_from_file(pipe, policy, wanted, num_images)
    if wanted is None:
        labels = list(range(pipe.transformer.config.num_classes))
        count = num_images or min(len(labels), MOST_DEFAULT_IMAGES)
    else:
        labels = pipe.class_ids([label for entry in wanted for label in read_label(entry, pipe.labels)])
        count = num_images or len(labels)
    if policy == "balanced":
        return list(islice(cycle(labels), count))
    import numpy as np

    return [labels[index] for index in np.random.default_rng(seed).integers(len(labels), size=count).tolist()]


def read_label(entry: str, known: Sequence[str]) -> list[int | str]:
    """ "3" -> [3], "0-9" -> [0, ..., 9], anything else is a name; names the model knows come first.

    Raises:
        InputError: a range that runs backwards.
    """
    if entry in known:
        return [entry]
    if re.fullmatch(r"-?\d+", entry):
        return [int(entry)]
    if match := re.fullmatch(r"(\d+)-(\d+)", entry):
        first, last = int(match[1]), int(match[2])
        if first > last:
            raise InputError(f"--class-labels {entry} runs backwards; write {last}-{first}.")
        return list(range(first, last + 1))
    return [entry]


def _labels_from_file(pipe: Any, name: str, wanted: Sequence[str] | None, num_images: int | None) -> list[int]:
    path = Path(name)
    if not path.is_file():
        raise InputError(f"--label-policy {name!r} is no file: {did_you_mean(name, POLICIES)}")
    if wanted is not None:
        raise InputError("--class-labels chooses classes for a policy, but --label-policy names a file of labels.")
    entries = _read_entries(path)
    if num_images is not None and num_images > len(entries):
        raise InputError(f"--num-images {num_images}, but {path} has {len(entries)} labels.")
    return pipe.class_ids(entries[:num_images])


def _read_entries(path: Path) -> list[int | str]:
    """Class ids or names: `labels` of an npz, the numbers of an npy, or the lines of a text."""
    import numpy as np

    fix = "it must be an npz with `labels`, an npy of class ids, or a text with one class per line."
    with reading(path, fix):
        if path.suffix not in (".npy", ".npz"):
            lines = [line.strip() for line in path.read_text().splitlines()]
            return [int(line) if re.fullmatch(r"-?\d+", line) else line for line in lines if line]
        content = np.load(path, allow_pickle=False)
        return [int(value) for value in (content["labels"] if path.suffix == ".npz" else content).reshape(-1)]
