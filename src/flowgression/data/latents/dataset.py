"""A latent cache as a data set: moments read through memory maps, latents drawn from them anew in each epoch.

Letters: N images, n of them in one request, C channels and h x h size of a latent.
"""

from collections import OrderedDict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression.classes import Classes
from flowgression.data.config import DataConfig
from flowgression.data.dataset import LabeledImages
from flowgression.data.latents.index import AUTOENCODER, CacheIndex
from flowgression.data.latents.shard import MappedShard
from flowgression.data.latents.verify import complete
from flowgression.data.sampler import ReadOrder
from flowgression.errors import InputError

BLOCK = 1024  # images that are read from disk in one go
WINDOW = 64  # blocks whose images are shuffled together: 65,536 images, about 1 GiB of SD-VAE latents in bf16
PLAUSIBLE = (0.2, 5.0)  # standard deviation of what a model sees; recipes expect about 1


class LatentCache(LabeledImages):
    """The latents of a cache; `image_size` and `channels` are the latents'.

    `cache.batch(indices, flips, keys)` is float32 [n, C, h, h]: (z - shift_factor) * scaling_factor with
    z = mean + exp(logvar / 2) e, and the noise e of item i a pure function of (key, i). Without keys z is the mean.
    For pixels, items are those of the images that were cached, bit for bit.

    Attributes:
        index: what the cache is.
        folder: where it is.
        read_order: in large caches, an epoch goes through shuffled blocks of neighbours, so that disks read megabytes
            at a time; the images of a block are a random sample of the data set, and 64 blocks are shuffled together.
    """

    in_memory = False
    max_workers = 2  # one reads and draws more than 10,000 latents of 16 KiB a second

    def __init__(self, folder: Path, index: CacheIndex) -> None:
        assert index.shards is not None
        self.folder, self.index, plan = folder, index, index.plan
        self.title = f"the latents of autoencoder {plan.autoencoder} in {folder}"
        self.stochastic = plan.stochastic
        self.read_order = ReadOrder(BLOCK, WINDOW) if plan.num_images > BLOCK * WINDOW else None
        self.autoencoder_folder = folder / AUTOENCODER if plan.autoencoder_sha256 else None
        self._maps: dict[int, MappedShard] = {}
        self._blocks: OrderedDict[tuple[int, str, int], None] = OrderedDict()
        super().__init__(self._whole("labels"), Classes(plan.class_names), plan.latent_channels, plan.latent_size)
        if plan.groups_crc32 is not None:
            self.with_groups(self._whole("groups"), plan.group_names)

    def items(self, indices: Sequence[int], flips: Sequence[bool], keys: Sequence[int] | None = None) -> Tensor:
        plan = self.index.plan
        if not plan.stochastic:
            return super().items(indices, flips)
        if any(flips) and not plan.flip:
            raise InputError(f"the latent cache {self.folder} holds no mirrored images")
        moments = self._rows(indices, flips).float()
        mean, logvar = moments.chunk(2, dim=1)
        if keys is not None:
            noise = np.stack([draw_noise(key, index, mean.shape[1:]) for key, index in zip(keys, indices, strict=True)])
            mean = mean + (logvar / 2).exp() * torch.from_numpy(noise)
        return (mean - plan.shift_factor) * plan.scaling_factor

    def pixels(self, indices: Sequence[int]) -> Tensor:
        """uint8 [n, C, h, h] of a cache of pixels.

        Raises:
            InputError: this is a cache of latents.
        """
        if self.index.plan.stochastic:
            raise InputError(f"{self.folder} holds latents, not pixels")
        return self._rows(indices, [False] * len(indices))

    def summary(self) -> dict[str, Any]:
        """What another autoencoder or scale would change."""
        names = ("autoencoder_sha256", "scaling_factor", "shift_factor", "store", "files_crc32")
        return {name: getattr(self.index.plan, name) for name in names}

    def __getstate__(self) -> dict[str, Any]:
        return self.__dict__ | {"_maps": {}, "_blocks": OrderedDict()}  # each process maps the files itself

    def _rows(self, indices: Sequence[int], flips: Sequence[bool]) -> Tensor:
        size = self.index.plan.shard_size
        rows = []
        for index, flip in zip(indices, flips, strict=True):
            number, row = divmod(index, size)
            name = "moments_flipped" if flip else "moments"
            self._announce(number, name, row)
            rows.append(self._shard(number).arrays[name][row])
        stacked = torch.from_numpy(np.stack(rows))
        return stacked.view(torch.bfloat16) if self.index.plan.store == "bf16" else stacked

    def _announce(self, number: int, name: str, row: int) -> None:
        """Have the block around a row read as a whole the first time that one of its rows is needed."""
        if self.read_order is None:
            return
        block = (number, name, row // BLOCK)
        if block in self._blocks:
            return
        self._shard(number).read_ahead(name, block[2] * BLOCK, (block[2] + 1) * BLOCK)
        self._blocks[block] = None
        if len(self._blocks) > 4 * WINDOW:  # in the next epoch the block may have left the system's memory
            self._blocks.popitem(last=False)

    def _whole(self, name: str) -> np.ndarray:
        """One array of all shards together, [N, ...]."""
        return np.concatenate([self._shard(number).arrays[name] for number in range(self.index.plan.num_shards)])

    def _shard(self, number: int) -> MappedShard:
        if number not in self._maps:
            assert self.index.shards is not None
            record = self.index.shards[number]
            self._maps[number] = MappedShard(self.folder / record.file, self.index.plan.shapes(record.count))
        return self._maps[number]


def draw_noise(key: int, index: int, shape: Sequence[int]) -> np.ndarray:
    """Normal noise float32 of `shape`: a counter-based stream of its own for each (key, index)."""
    return np.random.Generator(np.random.Philox(key=[key, index])).standard_normal(shape, dtype=np.float32)


def open_cache(folder: Path, config: DataConfig) -> LatentCache:
    """Open a latent cache and see that it is what the configuration asks for.

    Raises:
        InputError: it is not complete, damaged, of another split or size, without the mirrored images that are asked
            for, or its scale is not the expected one or does not fit the autoencoder.
    """
    index = complete(folder)
    plan = index.plan
    made_from = f"the latent cache {folder} (autoencoder {plan.autoencoder})"
    for name, wanted, found in (
        ("split", config.split, plan.split),
        ("image_size", config.image_size, plan.image_size),
        ("channels", config.channels, plan.pixel_channels),
        ("scaling_factor", config.scaling_factor, plan.scaling_factor),
    ):
        if wanted is not None and wanted != found:
            raise InputError(f"data.{name}={wanted!r} does not fit {made_from}, which was made with {found!r}")
    if config.flip and plan.stochastic and not plan.flip:
        raise InputError(f"data.flip is on, but {made_from} holds no mirrored images; cache again without --no-flip")
    assert index.shards is not None
    for record in index.shards:
        path = folder / record.file
        size = path.stat().st_size if path.exists() else 0
        if size != record.bytes:
            raise InputError(
                f"{path} has {size:,} bytes instead of {record.bytes:,}; run the `flowgression cache-latents` command "
                "that made it again: finished shards are kept, this one is made anew"
            )
    spread = index.standard_deviation()
    if plan.stochastic and not PLAUSIBLE[0] < spread < PLAUSIBLE[1]:
        raise InputError(
            f"{made_from}: its latents times scaling_factor={plan.scaling_factor:g} have standard deviation "
            f"{spread:.2g}; models are trained on about 1. The factor does not fit this autoencoder: cache again with "
            f"--scaling-factor {plan.scaling_factor / spread:.3g}"
        )
    return LatentCache(folder, index)
