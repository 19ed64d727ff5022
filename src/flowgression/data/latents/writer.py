"""Encoding a data set into the shards of a cache; any number of processes, each with its own shards.

Letters: N images, n of them in a shard, P C channels of images and latents, H h their sizes.
"""

import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from flowgression.data.dataset import LabeledImages
from flowgression.data.latents.index import (
    CachePlan,
    ShardRecord,
    complete_index,
    finished_shard,
    start_or_go_on,
    write_record,
)
from flowgression.data.latents.shard import write_shard
from flowgression.errors import InputError

Encode = Callable[[Tensor], tuple[Tensor, Tensor | None]]
"""Images float32 [B, P, H, H] in [-1, 1] to mean and log-variance [B, C, h, h] of their latents."""

DTYPES = {"bf16": torch.bfloat16, "fp32": torch.float32, "uint8": torch.uint8}


class CacheError(RuntimeError):
    """A cache cannot be finished now; the message says why, what is kept and how to resume."""


def write_cache(
    folder: Path,
    plan: CachePlan,
    dataset: LabeledImages,
    encode: Encode,
    *,
    process_index: int = 0,
    num_processes: int = 1,
    batch_size: int = 32,
    num_workers: int = 0,
    advance: Callable[[int], None] = lambda images: None,
) -> bool:
    """Encode what is missing of a cache; shards that are finished are left alone.

    Process p of P writes the shards p, p + P, ...; the one that finds all of them finished completes the index, so
    processes need not know of each other. A killed one loses the shard it was at.

    Args:
        folder: of the cache; made if it is not there.
        dataset: the images, in the order that `plan.labels_crc32` was taken of.
        encode: called on batches of at most `batch_size` images.
        num_workers: processes that decode images ahead.
        advance: called with the number of images encoded or found finished.

    Returns:
        Whether the cache is now complete.

    Raises:
        InputError: the cache in `folder` is of another kind, or the disk is too full for it.
        CacheError: a shard cannot be written.
    """
    folder.mkdir(parents=True, exist_ok=True)
    start_or_go_on(folder, plan)
    mine = range(process_index, plan.num_shards, num_processes)
    missing = [shard for shard in mine if finished_shard(folder, plan, shard) is None]
    advance(sum(len(plan.members(shard)) for shard in mine if shard not in missing))
    check_space(folder, plan, len(missing))
    for shard in missing:
        tensors, sums = encode_shard(plan, plan.members(shard), dataset, encode, batch_size, num_workers, advance)
        path = folder / plan.shard_name(shard)
        try:
            size, checksum = write_shard(path, tensors)
            count = len(tensors["labels"])
            record = ShardRecord(
                file=path.name, count=count, bytes=size, sha256=checksum, sums=sums[0], squares=sums[1]
            )
            write_record(folder, record)
        except OSError as error:
            kept = sum(finished_shard(folder, plan, other) is not None for other in range(plan.num_shards))
            raise CacheError(
                f"cannot write {path} ({error.strerror or error}). {kept} of {plan.num_shards} shards are finished and "
                "kept; fix the cause and run the same command again"
            ) from error
    return complete_index(folder, plan)


def check_space(folder: Path, plan: CachePlan, shards: int) -> None:
    """Raise InputError where the disk cannot hold so many more shards."""
    needed = shards * min(plan.shard_size, plan.num_images) * plan.bytes_per_image
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise InputError(
            f"{folder} has {free / 2**30:.1f} GiB free; the missing {shards} shards need {needed / 2**30:.1f} GiB"
        )


def encode_shard(
    plan: CachePlan,
    members: NDArray[np.int64],
    dataset: LabeledImages,
    encode: Encode,
    batch_size: int,
    num_workers: int,
    advance: Callable[[int], None],
) -> tuple[dict[str, Tensor], tuple[list[float], list[float]]]:
    """The tensors of one shard (see shard.py), and per channel the sums of z and z**2.

    Raises:
        FloatingPointError: the encoder gives values that are not finite.
    """
    channels = plan.latent_channels * (2 if plan.stochastic else 1)
    shape = (len(members), channels, plan.latent_size, plan.latent_size)
    names = ["moments", "moments_flipped"] if plan.flip and plan.stochastic else ["moments"]
    tensors = {name: torch.empty(shape, dtype=DTYPES[plan.store]) for name in names}
    sums, squares = np.zeros(plan.latent_channels), np.zeros(plan.latent_channels)
    for start, pixels in read_pixels(dataset, members, batch_size, num_workers):
        rows = slice(start, start + len(pixels))
        images = pixels.float().div_(127.5).sub_(1.0)
        if not plan.stochastic:
            tensors["moments"][rows] = pixels
        for name in names:
            mean, logvar = encode(images.flip(-1) if name == "moments_flipped" else images)
            if not torch.isfinite(mean).all() or (logvar is not None and not torch.isfinite(logvar).all()):
                raise FloatingPointError("the autoencoder gives values that are not finite; try --dtype float32")
            if logvar is not None:
                tensors[name][rows] = torch.cat([mean, logvar], dim=1).to(tensors[name].dtype)
            if name == "moments":
                variance = torch.zeros_like(mean) if logvar is None else logvar.exp()
                sums += mean.double().sum((0, 2, 3)).cpu().numpy()
                squares += (mean.double().square() + variance).sum((0, 2, 3)).cpu().numpy()
        advance(len(pixels))
    tensors["labels"] = torch.from_numpy(dataset.labels[members])
    if plan.groups_crc32 is not None and dataset.groups is not None:
        tensors["groups"] = torch.from_numpy(dataset.groups[members])
    tensors["source"] = torch.from_numpy(members)
    return tensors, (sums.tolist(), squares.tolist())


class _Reads(Dataset[Tensor]):
    """Batches of pixels, for worker processes."""

    def __init__(self, dataset: LabeledImages, batches: list[NDArray[np.int64]]) -> None:
        self.dataset, self.batches = dataset, batches

    def __len__(self) -> int:
        return len(self.batches)

    def __getitem__(self, index: int) -> Tensor:
        return self.dataset.pixels(self.batches[index].tolist())


def read_pixels(
    dataset: LabeledImages, members: NDArray[np.int64], batch_size: int, num_workers: int
) -> Iterator[tuple[int, Tensor]]:
    """The images `members` [n] in batches: the place of the first, and uint8 [B, P, H, H]."""
    batches = [members[start : start + batch_size] for start in range(0, len(members), batch_size)]
    loader = DataLoader(_Reads(dataset, batches), batch_size=None, num_workers=num_workers)
    for number, pixels in enumerate(loader):
        yield number * batch_size, pixels
