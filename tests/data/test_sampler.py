"""Letters: N images, S images in a sequence, B sequences in a batch, P processes."""

import warnings
from itertools import islice

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flowgression import InputError
from flowgression.data import SequenceBatchSampler

LABELS = st.lists(st.integers(0, 4), min_size=1, max_size=60).map(np.array)
LENGTHS = st.integers(1, 7)
UNTIMED = settings(deadline=None)  # a busy machine is no failure
SEEDS = st.integers(0, 2**40)


def quiet(*args: object, **kwargs: object) -> SequenceBatchSampler:
    """A sampler whose classes may be small."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return SequenceBatchSampler(*args, **kwargs)


@UNTIMED
@given(LABELS, LENGTHS, SEEDS, st.integers(0, 5))
def test_an_epoch_uses_every_image_once_except_class_tails(labels, length, seed, epoch) -> None:
    indices, _ = quiet(labels, 1, length, seed).epoch_order(epoch)
    assert indices.shape[1] == length
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        used = indices[(labels[indices] == label).all(axis=1)].ravel()
        if len(members) >= length:
            assert len(np.unique(used)) == len(used) == len(members) - len(members) % length
        else:
            assert len(used) == length
            np.testing.assert_array_equal(np.unique(used), members)


@UNTIMED
@given(LABELS, LENGTHS, SEEDS)
def test_sequences_hold_one_class(labels, length, seed) -> None:
    indices, _ = quiet(labels, 1, length, seed).epoch_order(0)
    assert (labels[indices] == labels[indices[:, :1]]).all()


@UNTIMED
@given(LABELS, LENGTHS, SEEDS)
def test_mixed_sequences_use_every_image_once_but_for_one_tail(labels, length, seed) -> None:
    indices, _ = quiet(labels, 1, length, seed, contents="mixed").epoch_order(0)
    count = max(len(labels) // length, 1)
    assert indices.shape == (count, length)
    assert len(np.unique(indices)) == min(len(labels), count * length)


@UNTIMED
@given(LABELS, LENGTHS, SEEDS, st.booleans())
def test_a_sequence_of_one_image_repeats_it_and_an_epoch_has_all(labels, length, seed, flip) -> None:
    sampler = quiet(labels, 1, length, seed, flip=flip, contents="image")
    rows = [batch[0] for batch in islice(sampler, len(labels))]
    assert all(len(row) == length and len(set(row)) == 1 for row in rows)
    assert sorted(row[0][0] for row in rows) == list(range(len(labels)))


def test_unknown_contents_are_refused() -> None:
    with pytest.raises(InputError, match="did you mean 'mixed'"):
        SequenceBatchSampler(np.zeros(3), 1, 2, contents="mix")


@UNTIMED
@given(LABELS, st.integers(1, 7), SEEDS)
def test_single_images_cover_each_epoch_exactly(labels, batch_size, seed) -> None:
    sampler = SequenceBatchSampler(labels, batch_size, None, seed)
    stream = [index for batch in islice(sampler, 3 * len(labels)) for index, _ in batch]
    for start in range(0, len(stream) - len(labels) + 1, len(labels)):
        assert sorted(stream[start : start + len(labels)]) == list(range(len(labels)))


@UNTIMED
@given(LABELS, LENGTHS, SEEDS, st.integers(1, 4), st.integers(1, 4), st.booleans())
def test_processes_take_disjoint_parts_of_the_global_batch(labels, length, seed, batch_size, processes, flip) -> None:
    whole = quiet(labels, batch_size * processes, length, seed, flip=flip)
    parts = [quiet(labels, batch_size, length, seed, p, processes, flip) for p in range(processes)]
    for expected, *batches in islice(zip(whole, *parts, strict=True), 6):
        assert [sequence for batch in batches for sequence in batch] == expected


@UNTIMED
@given(LABELS, LENGTHS, SEEDS, st.integers(1, 4), st.integers(0, 40))
def test_resuming_continues_the_stream(labels, length, seed, batch_size, start) -> None:
    from_zero = quiet(labels, batch_size, length, seed, flip=True)
    resumed = quiet(labels, batch_size, length, seed, flip=True, start_batch=start)
    assert list(islice(resumed, 4)) == list(islice(from_zero, start, start + 4))


@settings(UNTIMED, max_examples=20)
@given(st.integers(0, 2**32), st.integers(0, 2**32))
def test_seed_and_epoch_change_the_order(first, second) -> None:
    labels = np.repeat([0, 1], 50)
    indices, _ = SequenceBatchSampler(labels, 1, 5, first).epoch_order(0)
    assert (indices != SequenceBatchSampler(labels, 1, 5, first).epoch_order(1)[0]).any()
    if first != second:
        assert (indices != SequenceBatchSampler(labels, 1, 5, second).epoch_order(0)[0]).any()


def test_order_does_not_depend_on_flip_and_half_are_flipped() -> None:
    labels = np.repeat(np.arange(4), 1000)
    plain, none = SequenceBatchSampler(labels, 1, 5).epoch_order(0)
    order, flips = SequenceBatchSampler(labels, 1, 5, flip=True).epoch_order(0)
    np.testing.assert_array_equal(plain, order)
    assert not none.any()
    assert abs(flips.mean() - 0.5) < 4 * 0.5 / np.sqrt(4000)  # four standard deviations


def test_no_sequence_position_prefers_an_image() -> None:
    """Tails change from epoch to epoch, so that over many epochs all images are used alike."""
    labels = np.zeros(7, dtype=np.int64)
    sampler = SequenceBatchSampler(labels, 1, 5)
    used = np.bincount(np.concatenate([sampler.epoch_order(epoch)[0].ravel() for epoch in range(700)]), minlength=7)
    assert np.abs(used - 500).max() < 5 * np.sqrt(700 * 5 / 7 * 2 / 7)  # five standard deviations


def test_small_classes_are_named_in_one_warning() -> None:
    labels = np.array([0] * 9 + [1] * 3 + [2] * 2)
    with pytest.warns(UserWarning, match="2 classes have fewer images than a sequence of 5: dog, eel") as caught:
        sampler = SequenceBatchSampler(labels, 4, 5, class_names=["cat", "dog", "eel"])
    assert len(caught) == 1
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        list(islice(sampler, 20))


def test_a_batch_larger_than_the_data_spans_epochs() -> None:
    sampler = SequenceBatchSampler(np.zeros(10, dtype=np.int64), 16, 5)
    assert sampler.sequences_per_epoch == 2
    batch = next(iter(sampler))
    assert len(batch) == 16
    for first, second in zip(batch[::2], batch[1::2], strict=True):  # each pair of sequences is one epoch
        assert sorted(index for index, _ in first + second) == list(range(10))


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        ({"batch_size": 0}, "batch_size"),
        ({"sequence_length": 0}, "sequence_length"),
        ({"seed": -1}, "seed"),
        ({"start_batch": -1}, "start_batch"),
        ({"num_processes": 0}, "num_processes"),
        ({"process_index": 2, "num_processes": 2}, "process_index"),
        ({"labels": []}, "labels"),
        ({"labels": [[1, 2]]}, "labels"),
    ],
)
def test_wrong_numbers_are_named(arguments, named) -> None:
    with pytest.raises(InputError, match=named):
        SequenceBatchSampler(**({"labels": [0, 1], "batch_size": 1} | arguments))
