"""The latent cache: what it holds, what it draws, and that nothing finished is lost.

The encoder here is a closed form, so every stored number is known.
"""

import errno
import json
import multiprocessing
import os
import shutil
import signal
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import IO, Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from flowgression import InputError
from flowgression.data import DataConfig, SequenceBatchSampler, make_loader, make_sampler, open_dataset
from flowgression.data.dataset import MemoryImages
from flowgression.data.latents import dataset as cache_module
from flowgression.data.latents import shard as shard_module
from flowgression.data.latents.dataset import LatentCache, draw_noise
from flowgression.data.latents.index import CachePlan, finished_shard, read_index
from flowgression.data.latents.shard import MappedShard, write_shard
from flowgression.data.latents.verify import verify_cache
from flowgression.data.latents.writer import CacheError, write_cache
from flowgression.data.sampler import ReadOrder

N, SIZE = 60, 8
RANDOM = np.random.default_rng(0)
IMAGES = MemoryImages(
    RANDOM.integers(0, 256, (N, 3, SIZE, SIZE), dtype=np.uint8), np.sort(RANDOM.integers(0, 3, N)), ["a", "b", "c"], 3
)


def encode(images: Tensor) -> tuple[Tensor, Tensor]:
    mean = F.avg_pool2d(images, 2)[:, :2] + torch.linspace(0, 1, 4)  # no mirror symmetry
    return mean, mean.square() - 2


def make_plan(**changes: Any) -> CachePlan:
    settings: dict[str, Any] = {
        "source": "somewhere",
        "split": "train",
        "num_images": N,
        "labels_crc32": zlib.crc32(IMAGES.labels.tobytes()),
        "class_names": IMAGES.class_names,
        "image_size": SIZE,
        "pixel_channels": 3,
        "autoencoder": "made up",
        "autoencoder_sha256": "0" * 64,
        "latent_channels": 2,
        "latent_size": 4,
        "scaling_factor": 2.0,
        "shift_factor": 0.25,
        "store": "fp32",
        "flip": True,
        "shard_size": 16,
    }
    return CachePlan(**(settings | changes))


def pixel_plan() -> CachePlan:
    facts = {"latent_channels": 3, "latent_size": SIZE, "scaling_factor": 1.0, "shift_factor": 0.0}
    return make_plan(store="uint8", autoencoder="identity", autoencoder_sha256=None, **facts)


def write(folder: Path, plan: CachePlan, **keywords: Any) -> bool:
    function = encode if plan.stochastic else lambda images: (images, None)
    return write_cache(folder, plan, IMAGES, function, batch_size=7, **keywords)


def opened(folder: Path, **config: Any) -> LatentCache:
    dataset = open_dataset(DataConfig(str(folder), **config))
    assert isinstance(dataset, LatentCache)
    return dataset


def state_of(folder: Path) -> dict[str, tuple[int, bytes]]:
    """Inode and content of every shard: a shard made anew would have another inode."""
    return {path.name: (path.stat().st_ino, path.read_bytes()) for path in sorted(folder.glob("shard-*"))}


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cache") / "whole"
    assert write(folder, make_plan())
    return folder


@pytest.fixture
def copy(whole: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "copy"))


# What it holds.


@pytest.mark.parametrize(("store", "tolerance"), [("fp32", 1e-6), ("bf16", 2**-7)])
def test_every_latent_is_there_with_its_label_and_mirror_image(tmp_path: Path, store: str, tolerance: float) -> None:
    assert write(tmp_path / "cache", make_plan(store=store))
    assert verify_cache(tmp_path / "cache") == []
    cache = opened(tmp_path / "cache", flip=True)
    assert (len(cache), cache.channels, cache.image_size, cache.num_classes) == (N, 2, 4, 3)
    shards = [MappedShard(path, {}) for path in sorted((tmp_path / "cache").glob("*.safetensors"))]
    source = np.concatenate([shard.arrays["source"] for shard in shards])
    assert [len(shard.arrays["labels"]) for shard in shards] == [16, 16, 16, 12]
    assert not np.array_equal(source, np.sort(source))
    np.testing.assert_array_equal(cache.labels, IMAGES.labels[source])
    for flip in (False, True):
        expected = (encode(IMAGES.batch(source.tolist(), [flip] * N))[0] - 0.25) * 2.0
        got = cache.batch(range(N), [flip] * N)
        torch.testing.assert_close(got, expected, atol=tolerance, rtol=tolerance)


def test_a_cache_of_pixels_gives_the_images_bit_for_bit(tmp_path: Path) -> None:
    write(tmp_path / "cache", pixel_plan())
    cache = opened(tmp_path / "cache", flip=True)
    assert cache.autoencoder_folder is None
    source = np.concatenate([MappedShard(p, {}).arrays["source"] for p in sorted((tmp_path / "cache").glob("*.s*"))])
    flips = RANDOM.random(N) < 0.5
    assert torch.equal(cache.batch(range(N), flips), IMAGES.batch(source, flips))


# What it draws.


def test_latents_follow_the_posterior(whole: Path) -> None:
    cache = opened(whole)
    count = 4000
    drawn = cache.batch([5] * count, [False] * count, range(count)).double()
    moments = torch.from_numpy(MappedShard(min(whole.glob("*.safetensors")), {}).arrays["moments"][5].copy())
    mean, logvar = moments.double().chunk(2)
    spread = (logvar / 2).exp() * 2.0
    error = spread / count**0.5
    assert ((drawn.mean(0) - (mean - 0.25) * 2.0).abs() < 5 * error).all()
    assert ((drawn.std(0) / spread - 1).abs() < 5 / (2 * count) ** 0.5).all()


def test_a_draw_is_a_function_of_key_and_image_alone(whole: Path) -> None:
    cache = opened(whole)
    alone = cache.batch([7], [True], [3])
    together = cache.batch([1, 7, 20], [False, True, False], [3, 3, 3])
    assert torch.equal(alone[0], together[1])
    assert not torch.equal(alone, cache.batch([7], [True], [4]))
    assert not np.array_equal(draw_noise(3, 7, (4,)), draw_noise(3, 8, (4,)))


def batches(cache: LatentCache, start: int, count: int, workers: int = 0) -> list[Tensor]:
    sampler = make_sampler(cache, 4, 3, seed=1, flip=True, start_batch=start)
    return [batch["images"] for batch in islice(make_loader(cache, sampler, workers), count)]


def test_batches_resume_exactly_and_differ_between_epochs(whole: Path) -> None:
    cache = opened(whole, flip=True)
    run = batches(cache, 0, 9)
    assert run[0].shape == (4, 3, 2, 4, 4)
    assert all(torch.equal(left, right) for left, right in zip(run[4:], batches(cache, 4, 5), strict=True))
    assert all(torch.equal(left, right) for left, right in zip(run[:2], batches(cache, 0, 2, workers=1), strict=True))
    items = [item for batch in islice(make_sampler(cache, 60, None, seed=1), 2) for item in batch]
    keys = [{key for _, _, key in items[start : start + N]} for start in (0, N)]
    assert len(keys[0]) == len(keys[1]) == 1  # an epoch has one key
    assert keys[0] != keys[1]


# In which order it is read.

LABELS = st.lists(st.integers(0, 3), min_size=1, max_size=80).map(np.array)


@settings(deadline=None)
@given(LABELS, st.integers(1, 4), st.integers(1, 9), st.integers(1, 3), st.integers(0, 3))
@pytest.mark.filterwarnings("ignore:.*have fewer images")
def test_a_walk_over_blocks_is_an_epoch_too(labels, length, block, window, epoch) -> None:
    sampler = SequenceBatchSampler(labels, 1, length, seed=5, read_order=ReadOrder(block, window))
    indices, _ = sampler.epoch_order(epoch)
    assert indices.shape == (sampler.sequences_per_epoch, length)
    assert (labels[indices] == labels[indices[:, :1]]).all()
    for label in np.unique(labels):
        members = np.flatnonzero(labels == label)
        used = indices[labels[indices[:, 0]] == label].ravel()
        if len(members) >= length:
            assert len(np.unique(used)) == len(used) == len(members) - len(members) % length
        else:
            np.testing.assert_array_equal(np.unique(used), members)


def test_a_walk_opens_few_blocks_at_a_time() -> None:
    labels = RANDOM.integers(0, 5, 6000)
    sampler = SequenceBatchSampler(labels, 1, None, read_order=ReadOrder(block=100, window=6))
    order = sampler.epoch_order(0)[0].ravel()
    for start in range(0, 6000, 600):
        assert len(np.unique(order[start : start + 600] // 100)) == 6
    plain = SequenceBatchSampler(labels, 1, None).epoch_order(0)[0].ravel()
    assert len(np.unique(plain[:600] // 100)) > 50
    others = sampler.epoch_order(1)[0].ravel()
    assert set(order[:600] // 100) != set(others[:600] // 100)


def test_each_block_is_announced_once_to_the_system(whole: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(cache_module, "BLOCK", 8)
    monkeypatch.setattr(cache_module, "WINDOW", 2)
    announced: list[tuple[str, int]] = []
    real = MappedShard.read_ahead

    def note(self: MappedShard, name: str, first: int, last: int) -> None:
        announced.append((name, first))
        real(self, name, first, last)

    monkeypatch.setattr(MappedShard, "read_ahead", note)
    cache = opened(whole)
    assert cache.read_order == ReadOrder(8, 2)
    expected = cache.batch(range(N), [False] * N)
    assert len(announced) == 8  # 2 + 2 + 2 + 2 blocks of four shards
    monkeypatch.undo()
    assert torch.equal(opened(whole).batch(range(N), [False] * N), expected)


# Faults.


def in_child(function: Callable[[], object]) -> int:
    """Run in a forked process and return its exit status."""

    def run() -> None:
        torch.set_num_threads(1)
        function()

    process = multiprocessing.get_context("fork").Process(target=run)
    process.start()
    process.join(60)
    return process.exitcode if process.exitcode is not None else 0


@pytest.mark.parametrize("where", ["while encoding", "while writing"])
def test_killed_during_a_shard(whole: Path, tmp_path: Path, where: str, monkeypatch: pytest.MonkeyPatch) -> None:
    folder, calls = tmp_path / "cache", 0

    def kill_later(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == 8:
            os.kill(os.getpid(), signal.SIGKILL)
        return encode(*args) if where == "while encoding" else real(*args)

    real = os.fsync
    if where == "while encoding":  # six calls a shard: this is in the second
        status = in_child(lambda: write_cache(folder, make_plan(), IMAGES, kill_later, batch_size=7))
    else:  # the index, then shard and record of each: this is the file of the fourth shard
        monkeypatch.setattr(os, "fsync", kill_later)
        status = in_child(lambda: write(folder, make_plan()))
        monkeypatch.undo()
        assert list(folder.glob(".shard-00003*.tmp"))
    assert status == -signal.SIGKILL
    before = state_of(folder)
    assert len(before) == {"while encoding": 2, "while writing": 6}[where]
    with pytest.raises(InputError, match=rf"not complete: {len(before) // 2} of 4 shards .* Run the same"):
        opened(folder)
    assert write(folder, make_plan())
    after = state_of(folder)
    assert {name: after[name] for name in before} == before  # nothing finished was made again
    assert {name: content for name, (_, content) in after.items()} == {
        name: content for name, (_, content) in state_of(whole).items()
    }
    assert not list(folder.glob(".*.tmp"))


def test_a_full_disk(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    real, left = shard_module.atomic_write, 16 * 1024

    @contextmanager
    def quota(path: Path) -> Iterator[IO[bytes]]:
        with real(path) as file:
            yield Limited(file)

    class Limited:
        def __init__(self, file: IO[bytes]) -> None:
            self.file = file

        def write(self, content: bytes) -> None:
            nonlocal left
            self.file.write(content[:left])
            if len(content) > left:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
            left -= len(content)

    monkeypatch.setattr(shard_module, "atomic_write", quota)
    folder = tmp_path / "cache"
    with pytest.raises(CacheError, match=r"shard-00001.*No space left on device.*1 of 4 shards are finished and kept"):
        write(folder, make_plan())
    monkeypatch.undo()
    before = state_of(folder)
    assert not list(folder.glob(".*.tmp"))
    assert write(folder, make_plan())
    assert verify_cache(folder) == []
    assert state_of(folder).items() >= before.items()


def test_a_disk_too_small_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    usage = type("Usage", (), {"free": 1000})
    monkeypatch.setattr("shutil.disk_usage", lambda folder: usage)
    with pytest.raises(InputError, match=r"has 0.0 GiB free; the missing 4 shards need"):
        write(tmp_path / "cache", make_plan())


def test_a_truncated_shard_is_found_and_only_it_is_made_again(copy: Path, whole: Path) -> None:
    damaged = sorted(copy.glob("*.safetensors"))[2]
    damaged.write_bytes(damaged.read_bytes()[:-100])
    with pytest.raises(InputError, match=r"shard-00002-of-00004.safetensors has [\d,]+ bytes instead of [\d,]+; run"):
        opened(copy)
    assert "shard-00002" in verify_cache(copy)[0]
    before = state_of(copy)
    assert write(copy, make_plan())
    after = state_of(copy)
    assert [name for name in before if after[name] != before[name]] == [damaged.with_suffix(".json").name, damaged.name]
    assert after[damaged.name][1] == state_of(whole)[damaged.name][1]
    assert verify_cache(copy) == []


def test_a_flipped_bit_is_found_by_its_checksum(copy: Path) -> None:
    damaged = sorted(copy.glob("*.safetensors"))[1]
    content = bytearray(damaged.read_bytes())
    content[-1000] ^= 1
    damaged.write_bytes(content)
    assert verify_cache(copy) == ["shard-00001-of-00004.safetensors has another checksum than when it was written"]


def test_another_configuration_does_not_go_on(copy: Path) -> None:
    changed = make_plan(scaling_factor=1.0, shard_size=32)
    with pytest.raises(InputError, match=r"scaling_factor 2.0 -> 1.0, shard_size 16 -> 32. Put them back"):
        write(copy, changed)
    assert write(copy, make_plan(source="moved/elsewhere"))


def test_processes_share_the_shards(tmp_path: Path, whole: Path) -> None:
    folder, done = tmp_path / "cache", []
    assert not write(folder, make_plan(), process_index=1, num_processes=3, advance=done.append)
    assert not write(folder, make_plan(), process_index=0, num_processes=3, advance=done.append)
    assert write(folder, make_plan(), process_index=2, num_processes=3, advance=done.append)
    assert sum(done) == N
    assert [content for _, content in state_of(folder).values()] == [c for _, c in state_of(whole).values()]


def test_an_encoder_that_fails(tmp_path: Path) -> None:
    with pytest.raises(FloatingPointError, match="not finite"):
        write_cache(tmp_path, make_plan(), IMAGES, lambda images: (encode(images)[0] / 0, None))


@pytest.mark.parametrize(
    ("config", "message"),
    [
        ({"split": "test"}, "data.split='test' does not fit the latent cache .*made up.*made with 'train'"),
        ({"image_size": 16}, "data.image_size=16 does not fit .* made with 8"),
        ({"channels": 1}, "data.channels=1 does not fit .* made with 3"),
        ({"scaling_factor": 0.18215}, "data.scaling_factor=0.18215 does not fit .*made up.* made with 2.0"),
    ],
)
def test_a_cache_that_is_not_what_was_asked_for(whole: Path, config: dict, message: str) -> None:
    with pytest.raises(InputError, match=message):
        opened(whole, **config)


def test_missing_mirror_images_are_named(tmp_path: Path) -> None:
    write(tmp_path / "cache", make_plan(flip=False))
    with pytest.raises(InputError, match=r"data.flip is on, but the latent cache .* holds no mirrored images"):
        opened(tmp_path / "cache", flip=True)


def test_a_scale_that_does_not_fit_the_autoencoder_is_named(tmp_path: Path) -> None:
    write(tmp_path / "cache", make_plan(scaling_factor=0.01))
    with pytest.raises(
        InputError, match=r"scaling_factor=0.01 have standard deviation 0.00\d+.*--scaling-factor 1\.\d"
    ):
        opened(tmp_path / "cache")
    spread = replace(make_plan(), scaling_factor=1.0)
    mean, logvar = encode(IMAGES.batch(range(N), [False] * N))
    expected = (mean.var((0, 2, 3), correction=0) + logvar.exp().mean((0, 2, 3))).mean().sqrt()
    write(tmp_path / "other", spread)
    assert opened(tmp_path / "other").index.standard_deviation() == pytest.approx(expected.item(), rel=1e-4)


def test_a_scale_needs_a_cache(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="is no latent cache; `flowgression cache-latents` makes one"):
        open_dataset(DataConfig(str(tmp_path), scaling_factor=1.0))


@pytest.mark.parametrize(
    ("name", "value", "named"),
    [
        ("num_images", -0.5, "plan.num_images=-0.5 must be a whole number"),
        ("num_images", N - 1, "are not the"),
        ("latent_size", 0, "must be one or more"),
        ("scaling_factor", [2.0], "plan.scaling_factor"),
        ("store", "fp7", "plan.store='fp7' must be one of"),
    ],
)
def test_a_damaged_index_is_one_line_that_names_the_field(copy: Path, name: str, value: object, named: str) -> None:
    path = copy / "index.json"
    content = json.loads(path.read_text())
    content["plan"][name] = value
    path.write_text(json.dumps(content))
    for read in (verify_cache, opened):
        with pytest.raises(InputError, match="is damaged") as error:
            read(copy)
        assert named in str(error.value)


@pytest.mark.parametrize(("name", "value"), [("file", 7), ("count", [16]), ("bytes", "many"), ("sums", [None])])
def test_a_damaged_record_of_a_shard_is_refused(copy: Path, name: str, value: object) -> None:
    path = copy / "index.json"
    content = json.loads(path.read_text())
    content["shards"][0][name] = value
    path.write_text(json.dumps(content))
    with pytest.raises(InputError, match=f"is damaged .*{name}="):
        verify_cache(copy)


def test_shards_outside_of_the_cache_are_refused(copy: Path, whole: Path) -> None:
    """By their name, in the index or the record, or by a link."""
    index = json.loads((copy / "index.json").read_text())
    name = index["shards"][0]["file"]
    for outside in (f"../{copy.name}/{name}", str(whole / name), f"./{name}"):
        index["shards"][0]["file"] = outside
        (copy / "index.json").write_text(json.dumps(index))
        with pytest.raises(InputError, match="shard 0 is said to be"):
            verify_cache(copy)
    record = copy / Path(name).with_suffix(".json")
    index["shards"][0]["file"] = name
    (copy / "index.json").write_text(json.dumps(index))
    record.write_text(json.dumps({**json.loads(record.read_text()), "file": str(whole / name)}))
    assert finished_shard(copy, read_index(copy).plan, 0) is None
    (copy / name).unlink()
    (copy / name).symlink_to(whole / name)
    assert any("outside of the cache" in fault for fault in verify_cache(copy))


def test_a_shard_without_labels_or_of_another_shape_is_refused(copy: Path) -> None:
    path = min(copy.glob("*.safetensors"))
    index = read_index(copy)
    arrays = {name: torch.from_numpy(array.copy()) for name, array in MappedShard(path, {}).arrays.items()}
    shapes = index.plan.shapes(16)
    assert {name: tuple(array.shape) for name, array in arrays.items()} == shapes
    for name in ("labels", "moments"):
        write_shard(path, {other: array for other, array in arrays.items() if other != name})
        with pytest.raises(InputError, match=f"{name} must be .*, not missing"):
            MappedShard(path, shapes)
        write_shard(path, arrays | {name: arrays[name].flatten()[:15].clone()})
        with pytest.raises(InputError, match=rf"{name} must be .*, not \[15\]"):
            MappedShard(path, shapes)
