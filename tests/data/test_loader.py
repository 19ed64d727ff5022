import multiprocessing
import time
from itertools import islice

import numpy as np
import pytest
import torch

from flowgression import InputError
from flowgression.data import DataConfig, SequenceBatchSampler, make_loader, open_dataset
from flowgression.data.dataset import to_unit_range


@pytest.fixture(scope="module")
def digits():
    return open_dataset(DataConfig(split="test"))


@pytest.mark.parametrize(("length", "shape"), [(None, (6, 1, 28, 28)), (1, (6, 1, 1, 28, 28)), (5, (6, 5, 1, 28, 28))])
def test_batches_hold_what_the_sampler_names(digits, length, shape) -> None:
    sampler = SequenceBatchSampler(digits.labels, 6, length, seed=3, flip=True)
    for names, batch in islice(zip(sampler, make_loader(digits, sampler, 0), strict=True), 3):
        assert batch["images"].shape == shape
        assert batch["images"].dtype == torch.float32
        assert batch["class_labels"].dtype == torch.int64
        rows = names if length else [[item] for item in names]
        expected = torch.stack([digits[item] for row in rows for item in row])
        assert torch.equal(batch["images"].flatten(end_dim=-4), expected)
        assert batch["class_labels"].tolist() == [int(digits.labels[row[0][0]]) for row in rows]


def test_batches_do_not_depend_on_workers_and_global_randomness_stays(make_folder) -> None:
    dataset = open_dataset(DataConfig(str(make_folder({"a": 17, "b": 12})), cache_limit_mb=0))
    torch.manual_seed(5)
    before = torch.get_rng_state()
    runs = []
    for workers in (0, 1, 2):
        sampler = SequenceBatchSampler(dataset.labels, 3, 4, seed=1, flip=True)
        runs.append(list(islice(make_loader(dataset, sampler, workers), 8)))
    for batches in zip(*runs, strict=True):
        for batch in batches[1:]:
            assert torch.equal(batch["images"], batches[0]["images"])
            assert torch.equal(batch["class_labels"], batches[0]["class_labels"])
    assert torch.equal(torch.get_rng_state(), before)


def test_workers_end_with_the_iterator(make_folder) -> None:
    dataset = open_dataset(DataConfig(str(make_folder({"a": 8})), cache_limit_mb=0))
    batches = iter(make_loader(dataset, SequenceBatchSampler(dataset.labels, 2), 2))
    next(batches)
    assert len(multiprocessing.active_children()) == 2
    del batches
    assert not multiprocessing.active_children()


def test_workers_by_default_only_where_images_are_decoded(make_folder, digits) -> None:
    decoded = open_dataset(DataConfig(str(make_folder({"a": 8})), cache_limit_mb=0))
    assert make_loader(digits, SequenceBatchSampler(digits.labels, 2)).num_workers == 0
    assert make_loader(decoded, SequenceBatchSampler(decoded.labels, 2)).num_workers >= 1
    with pytest.raises(InputError, match="num_workers"):
        make_loader(digits, SequenceBatchSampler(digits.labels, 2), -1)


def test_images_in_memory_come_fast(digits) -> None:
    """Counted in processor seconds, and far below what is measured (above 100,000/s on an idle core), so that a busy
    machine passes too; decoding image by image would not."""
    batches = iter(make_loader(digits, SequenceBatchSampler(digits.labels, 64, 5, flip=True), 0))
    next(batches)
    start = time.process_time()
    for _ in range(60):
        next(batches)
    assert 60 * 64 * 5 / (time.process_time() - start) >= 4_000


def test_pixels_are_scaled_where_they_are_used(make_folder) -> None:
    """Workers pass uint8 on; the loader makes x / 127.5 - 1 of it, each value once rounded, on the device asked for."""
    levels = torch.arange(256, dtype=torch.uint8)
    expected = (levels.numpy() / np.float32(127.5) - np.float32(1)).astype(np.float32)
    assert to_unit_range(levels).numpy().tolist() == expected.tolist()
    latents = torch.randn(3)
    assert to_unit_range(latents) is latents
    dataset = open_dataset(DataConfig(str(make_folder({"a": 8})), cache_limit_mb=0))
    assert dataset.items([0, 1], [False, True]).dtype == torch.uint8
    for device in (None, "cpu", "meta"):
        batch = next(iter(make_loader(dataset, SequenceBatchSampler(dataset.labels, 2), 1, device=device)))
        assert batch["images"].dtype == torch.float32
        assert {tensor.device.type for tensor in batch.values()} == {device or "cpu"}
