"""Whether a cache is whole, to the last bit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np

from flowgression.data.latents.index import CacheIndex, read_index
from flowgression.data.latents.shard import MappedShard, file_sha256
from flowgression.errors import InputError


def verify_cache(folder: Path, advance: Callable[[int], None] = lambda images: None) -> list[str]:
    """Read all of a cache: sizes, checksums, and that every image is there exactly once.

    Args:
        advance: called with the number of images after each shard.

    Returns:
        A sentence for each fault; none if the cache is whole.

    Raises:
        InputError: there is no cache, or it is not complete.
    """
    index = complete(folder)
    assert index.shards is not None
    faults, seen = [], np.zeros(index.plan.num_images, dtype=np.int64)
    for record in index.shards:
        path = folder / record.file
        if path.resolve().parent != folder.resolve():
            faults.append(f"{record.file} is a link to {path.resolve()}, outside of the cache")
            continue
        size = path.stat().st_size if path.exists() else 0
        if size != record.bytes:
            faults.append(f"{record.file} has {size:,} bytes instead of {record.bytes:,}")
        elif file_sha256(path) != record.sha256:
            faults.append(f"{record.file} has another checksum than when it was written")
        else:
            np.add.at(seen, MappedShard(path, index.plan.shapes(record.count)).arrays["source"], 1)
        advance(record.count)
    if not faults and (seen != 1).any():
        faults.append(f"{int((seen == 0).sum())} images are missing and {int((seen > 1).sum())} there more than once")
    return faults


def complete(folder: Path) -> CacheIndex:
    """The index of a complete cache.

    Raises:
        InputError: there is no cache, or some of its shards are missing or truncated.
    """
    index = read_index(folder)
    if index.shards is None:
        there = len(list(folder.glob("shard-*.json")))
        raise InputError(
            f"the latent cache {folder} is not complete: {there} of {index.plan.num_shards} shards are finished. Run "
            "the same `flowgression cache-latents` command again; it resumes where it stopped"
        )
    return index
