"""Which images go into which batch: same-class sequences in true, seeded, resumable epochs.

Letters: N images, S images in a sequence, B sequences in a batch of one process, P processes. Sequences may also be of
one group (`CONTENTS`): what is said of classes then holds for groups. Those of mixed classes, and of one image S times,
are there for comparison.

One epoch e is a list of sequences that depends on (seed, e) alone. Every class is shuffled and cut into sequences of
S images; the tail of a class that does not fill a sequence sits out this epoch (another tail the next time). A class
with fewer than S images gives one sequence with each of its images and S - n more drawn with replacement. The
sequences of all classes are then shuffled. The epochs, one after another, make one endless stream; batch k of process
p is rows (k P + p) B to (k P + p + 1) B of it, so a batch may hold the end of one epoch and the start of the next,
no sequence is lost between them, and resuming at batch k costs one shuffle.

Where images are best read as neighbours (`ReadOrder`), the epoch is a walk over blocks of neighbours in random order,
shuffled within windows of several blocks; every class is cut into sequences along this walk.
"""

import warnings
from collections.abc import Iterator, Sequence
from itertools import count
from typing import NamedTuple

import numpy as np
from numpy.typing import ArrayLike, NDArray
from torch.utils.data import Sampler

from flowgression.errors import InputError, did_you_mean

Item = tuple[int, bool] | tuple[int, bool, int]  # index of an image, whether it is mirrored, and maybe a key
Batch = list[list[Item]] | list[Item]


CONTENTS = ("class", "group", "mixed", "image")
"""What a sequence holds: S images of one class, of one group, of any classes, or one image S times."""
LABELLED_EACH = ("group", "mixed")
"""Contents whose images have a label each; in the others those of a sequence share one."""


class ReadOrder(NamedTuple):
    """How an epoch goes through images on a disk that likes to read many neighbours at once.

    Attributes:
        block: Neighbours that are read together.
        window: Blocks whose images are shuffled together.
    """

    block: int
    window: int


class SequenceBatchSampler(Sampler[Batch]):
    """Endless batches of same-class sequences of (index, flip).

    Args:
        labels: int [N], the class of each image.
        batch_size: Sequences per batch on this process, B >= 1.
        sequence_length: S >= 1, or None for plain images: a batch is then a list of B items of mixed classes
            instead of a list of B lists of S items of one class each.
        seed: Order and flips are a pure function of (seed, epoch).
        process_index: This process, from 0 to num_processes - 1.
        num_processes: Processes that share each global batch of B * num_processes sequences, in disjoint parts.
        flip: Draw a flip with probability 1/2 for every item; the order of the images is the same either way.
        start_batch: Number of batches already used; iteration resumes behind them and reads no image to get there.
        class_names: Names for the warning about classes with fewer than S images; the labels if None.
        read_order: Walk through blocks of neighbours instead of shuffling all images at once.
        with_keys: Give each item a third number, a function of (seed, epoch), for data sets that draw from it.
        contents: What a sequence holds, one of `CONTENTS`. "mixed" cuts all images together into sequences, as if they
            were of one class; "image" makes a sequence of every image, repeated S times, mirrored together if at all.
        groups: int [N], the group of each image, for contents "group".
        group_names: as `class_names`.
        shortest: Batches have sequences of this length to S, all of one batch (and of all processes) the same, drawn
            uniformly by (seed, batch); of each sequence of S the first images are taken. None is S.

    Raises:
        InputError: no labels, no groups where they are asked for, or a number out of its range.
    """

    def __init__(
        self,
        labels: ArrayLike,
        batch_size: int,
        sequence_length: int | None = None,
        seed: int = 0,
        process_index: int = 0,
        num_processes: int = 1,
        flip: bool = False,
        start_batch: int = 0,
        class_names: Sequence[str] | None = None,
        read_order: ReadOrder | None = None,
        with_keys: bool = False,
        contents: str = "class",
        groups: ArrayLike | None = None,
        group_names: Sequence[str] | None = None,
        shortest: int | None = None,
    ) -> None:
        labels = np.asarray(labels)
        if labels.ndim != 1 or labels.size == 0:
            raise InputError(f"labels has shape {labels.shape}; expected [N] with at least one image")
        for name, value, least in (
            ("batch_size", batch_size, 1),
            ("sequence_length", 1 if sequence_length is None else sequence_length, 1),
            ("seed", seed, 0),
            ("start_batch", start_batch, 0),
            ("num_processes", num_processes, 1),
        ):
            if value < least:
                raise InputError(f"{name} is {value}; expected {least} or more")
        if contents not in CONTENTS:
            raise InputError(f"contents {contents!r} is unknown; {did_you_mean(contents, CONTENTS)}")
        if not 0 <= process_index < num_processes:
            raise InputError(f"process_index is {process_index}; expected 0 to {num_processes - 1}")
        if shortest is not None and not 1 <= shortest <= (sequence_length or 1):
            raise InputError(f"shortest is {shortest}; expected 1 to sequence_length, {sequence_length or 1}")
        self.batch_size = batch_size
        self.sequence_length = sequence_length
        self.seed = seed
        self.process_index = process_index
        self.num_processes = num_processes
        self.flip = flip
        self.start_batch = start_batch
        self.contents = contents
        self._length = 1 if contents == "image" else sequence_length or 1  # different images of a sequence
        self._shortest = shortest
        if contents == "mixed":
            labels, class_names = np.zeros_like(labels), ["all of them"]
        elif contents == "group":
            labels, class_names = checked_groups(groups, len(labels)), group_names
        self._read_order = read_order
        self._with_keys = with_keys
        self._labels = labels
        classes, counts = np.unique(labels, return_counts=True)
        self._members = np.split(np.argsort(labels, kind="stable"), np.cumsum(counts)[:-1])
        self.sequences_per_epoch = int(np.maximum(counts // self._length, 1).sum())
        self._latest: tuple[int, NDArray[np.int64], NDArray[np.bool_]] | None = None
        self._warn_of_small_classes(classes[counts < self._length], class_names)

    def epoch_order(self, epoch: int) -> tuple[NDArray[np.int64], NDArray[np.bool_]]:
        """The sequences of one epoch for all processes: indices int64 and flips bool, [sequences_per_epoch, S]."""
        if self._latest is None or self._latest[0] != epoch:
            random = np.random.default_rng((self.seed, epoch))
            if self._read_order is None:
                indices = np.concatenate([self._cut(random.permutation(group), random) for group in self._members])
                indices = indices[random.permutation(len(indices))]
            else:
                indices = self._walk(self._read_order, random)
            # Drawn last, so that the order does not depend on `flip`.
            flips = random.random(indices.shape) < (0.5 if self.flip else 0.0)
            self._latest = (epoch, indices, flips)
        return self._latest[1], self._latest[2]

    def __iter__(self) -> Iterator[Batch]:
        for batch in count(self.start_batch):
            first = (batch * self.num_processes + self.process_index) * self.batch_size
            rows = [self._row(position) for position in range(first, first + self.batch_size)]
            if self.sequence_length is None:
                yield [row[0] for row in rows]
            else:
                length = self._length_of(batch)
                yield [(row * (self.sequence_length // self._length))[:length] for row in rows]

    def _length_of(self, batch: int) -> int | None:
        """How many images the sequences of a batch have."""
        if self._shortest is None or self.sequence_length is None:
            return self.sequence_length
        return int(np.random.default_rng((self.seed, batch, 2)).integers(self._shortest, self.sequence_length + 1))

    def _row(self, position: int) -> list[Item]:
        epoch, row = divmod(position, self.sequences_per_epoch)
        indices, flips = self.epoch_order(epoch)
        if not self._with_keys:
            return list(zip(indices[row].tolist(), flips[row].tolist(), strict=True))
        key = epoch_key(self.seed, epoch)
        return [(index, flip, key) for index, flip in zip(indices[row].tolist(), flips[row].tolist(), strict=True)]

    def _cut(self, ordered: NDArray[np.int64], random: np.random.Generator) -> NDArray[np.int64]:
        """The images of a class, in the order of this epoch, as sequences [., S]."""
        if len(ordered) < self._length:
            extra = random.choice(np.sort(ordered), self._length - len(ordered), replace=True)
            return random.permutation(np.concatenate([ordered, extra]))[None]
        whole = len(ordered) - len(ordered) % self._length
        return ordered[:whole].reshape(-1, self._length)

    def _walk(self, how: ReadOrder, random: np.random.Generator) -> NDArray[np.int64]:
        """The sequences [., S] of an epoch along a walk over blocks, each in the window of its last image."""
        blocks = np.arange(len(self._labels)) // how.block
        windows = random.permutation(blocks[-1] + 1)[blocks] // how.window  # of every image
        walk = np.lexsort((random.random(len(windows)), windows))
        walk = walk[np.argsort(self._labels[walk], kind="stable")]  # class by class, each along the walk
        groups = np.split(walk, np.cumsum([len(group) for group in self._members])[:-1])
        indices = np.concatenate([self._cut(group, random) for group in groups])
        return indices[np.lexsort((random.random(len(indices)), windows[indices].max(axis=1)))]

    def _warn_of_small_classes(self, small: NDArray[np.int64], class_names: Sequence[str] | None) -> None:
        if not small.size:
            return
        names = [str(label) if class_names is None else class_names[label] for label in small.tolist()]
        listed = ", ".join(names[:10]) + (f" and {len(names) - 10} more" if len(names) > 10 else "")
        what = "groups" if self.contents == "group" else "classes"
        warnings.warn(
            f"{len(names)} {what} have fewer images than a sequence of {self._length}: {listed}. "
            "Their sequences repeat images (drawn with replacement). Add images or use shorter sequences.",
            stacklevel=3,
        )


def checked_groups(groups: ArrayLike | None, count: int) -> NDArray[np.int64]:
    """Groups of `count` images, int64 [N]; InputError where there are none, or not one for each."""
    if groups is None:
        raise InputError(
            "contents 'group' needs groups: what the images of a sequence share. Say where they are with "
            "data.group_by, or use contents 'class'"
        )
    found = np.asarray(groups, dtype=np.int64)
    if found.shape != (count,):
        raise InputError(f"groups has shape {found.shape}; expected [{count}], one for each image")
    return found


def epoch_key(seed: int, epoch: int) -> int:
    """A number below 2**63 that stands for an epoch of a run."""
    return int(np.random.SeedSequence((seed, epoch, 1)).generate_state(1, np.uint64)[0] >> 1)
