"""What a latent cache is and where its parts lie.

<cache>/index.json                          the plan; once all shards are there, also their list and statistics
<cache>/shard-00000-of-00157.safetensors    latents of `shard_size` images and their labels
<cache>/shard-00000-of-00157.json           count, bytes, checksum and sums of a finished shard
<cache>/autoencoder/                        the AutoencoderKL that made them and decodes what a model makes of them

Images lie in one random order, so that a run of neighbours is a fair sample of the data set.

Letters: N images, n of them in a shard, C channels and h x h size of a latent.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from flowgression.documents import read_json
from flowgression.errors import InputError
from flowgression.files import atomic_write
from flowgression.typed import check_fields

FORMAT = "flowgression latents 1"
INDEX = "index.json"
AUTOENCODER = "autoencoder"
# How latents are kept. uint8 is exact for pixels, whose posterior is a point, and holds no mirrored copy.
STORES = {"bf16": 2, "fp32": 4, "uint8": 1}
NAMES_ONLY = ("source", "autoencoder")  # where things were found; what they are is told by the other fields


@dataclass(frozen=True, kw_only=True)
class CachePlan:
    """What decides the content of a cache; a cache is only gone on with if all of it is the same.

    Attributes:
        source, split: the data set.
        num_images, labels_crc32, class_names: what identifies it; the checksum is of its labels in its own order, the
            names are those of `Classes.to_list`.
        image_size, pixel_channels: the images that were encoded, in pixels.
        resize: as `DataConfig.resize`.
        groups_crc32, group_names: of the images' groups, as of labels; None where there are none.
        autoencoder: its name when the cache was made.
        autoencoder_sha256: checksum of its weights; None for pixels.
        latent_channels, latent_size: C and h.
        scaling_factor, shift_factor: a model sees (z - shift_factor) * scaling_factor.
        store: "bf16", "fp32", or "uint8" for pixels.
        flip: whether the mirrored images were encoded too.
        shard_size: images in a shard, the last one excepted.
        seed: decides the order of the images.
        files_crc32: checksum of the image files; None where there are none, or where the cache is older than it.
    """

    source: str
    split: str
    num_images: int
    labels_crc32: int
    class_names: list[str | list[str] | None]
    image_size: int
    pixel_channels: int
    autoencoder: str
    autoencoder_sha256: str | None
    latent_channels: int
    latent_size: int
    scaling_factor: float
    shift_factor: float
    store: str
    flip: bool
    shard_size: int
    seed: int = 0
    resize: str = "bicubic"
    groups_crc32: int | None = None
    group_names: list[str] | None = None
    files_crc32: int | None = None

    @property
    def stochastic(self) -> bool:
        """Whether a latent is a distribution, of which mean and log-variance are kept."""
        return self.store != "uint8"

    @property
    def num_shards(self) -> int:
        return -(-self.num_images // self.shard_size)

    @property
    def bytes_per_image(self) -> int:
        """Bytes of one image in a shard, without its label."""
        parts = (2 if self.stochastic else 1) * (2 if self.flip and self.stochastic else 1)
        return parts * self.latent_channels * self.latent_size**2 * STORES[self.store]

    def shapes(self, count: int) -> dict[str, tuple[int, ...]]:
        """The arrays of a shard of `count` images, by name."""
        channels = self.latent_channels * (2 if self.stochastic else 1)
        moments = (count, channels, self.latent_size, self.latent_size)
        flipped = {"moments_flipped": moments} if self.flip and self.stochastic else {}
        grouped: dict[str, tuple[int, ...]] = {} if self.groups_crc32 is None else {"groups": (count,)}
        return {"moments": moments, **flipped, "labels": (count,), **grouped, "source": (count,)}

    def shard_name(self, shard: int) -> str:
        return f"shard-{shard:05d}-of-{self.num_shards:05d}.safetensors"

    def members(self, shard: int) -> NDArray[np.int64]:
        """The images of a shard by their numbers in the data set, int64 [n]."""
        order = np.random.default_rng(self.seed).permutation(self.num_images)
        return order[shard * self.shard_size : (shard + 1) * self.shard_size].astype(np.int64)


@dataclass(frozen=True, kw_only=True)
class ShardRecord:
    """A finished shard.

    Attributes:
        file: its name.
        count: n.
        bytes: size of the file.
        sha256: checksum of the file.
        sums, squares: per channel, sums of z and z**2 over images and positions; [C] each.
    """

    file: str
    count: int
    bytes: int
    sha256: str
    sums: list[float]
    squares: list[float]


@dataclass(frozen=True)
class CacheIndex:
    """A cache's plan and, if it is complete, its shards."""

    plan: CachePlan
    shards: list[ShardRecord] | None = None

    def standard_deviation(self) -> float:
        """That of what a model sees, over all images, positions and channels, each channel about its own mean."""
        assert self.shards is not None
        positions = self.plan.num_images * self.plan.latent_size**2
        mean, square = (
            np.sum([getattr(shard, name) for shard in self.shards], axis=0) / positions for name in ("sums", "squares")
        )
        return float(np.sqrt(np.mean(square - mean**2)) * self.plan.scaling_factor)


def is_cache(folder: Path) -> bool:
    """Whether `folder` holds a latent cache, complete or not."""
    try:
        return read_json(folder / INDEX).get("format") == FORMAT
    except (OSError, ValueError, AttributeError):
        return False


def read_index(folder: Path) -> CacheIndex:
    """The index of a cache.

    Raises:
        InputError: there is none, or it is damaged.
    """
    path = folder / INDEX
    try:
        content = read_json(path)
        found = content["format"]
        if found == FORMAT:
            return _checked(content["plan"], content.get("shards"))
    except FileNotFoundError as error:
        raise InputError(f"{folder} holds no latent cache; `flowgression cache-latents` makes one") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{path} is damaged ({error}); run the command that made the cache again, finished shards are kept"
        ) from error
    raise InputError(f"{path} is of format {found!r}; this version reads {FORMAT!r}")


def _checked(plan_values: Mapping[str, Any], shard_values: list[Mapping[str, Any]] | None) -> CacheIndex:
    """The index of these values. InputError or TypeError if they are not of their types or contradict each other."""
    plan = CachePlan(**plan_values)
    check_fields(plan, "plan.")
    for name in ("num_images", "image_size", "pixel_channels", "latent_channels", "latent_size", "shard_size"):
        if getattr(plan, name) < 1:
            raise InputError(f"plan.{name}={getattr(plan, name)} must be one or more")
    if plan.store not in STORES:
        raise InputError(f"plan.store={plan.store!r} must be one of {', '.join(STORES)}")
    if shard_values is None:
        return CacheIndex(plan)
    shards = [ShardRecord(**values) for values in shard_values]
    for shard in shards:
        check_fields(shard, "shards: ")
    counts = [shard.count for shard in shards]
    expected = [min(plan.shard_size, plan.num_images - first) for first in range(0, plan.num_images, plan.shard_size)]
    if counts != expected:
        raise InputError(f"shards of {counts} images are not the {plan.num_images} of the plan")
    for number, shard in enumerate(shards):
        if shard.file != plan.shard_name(number):
            raise InputError(f"shard {number} is said to be {shard.file!r}; expected {plan.shard_name(number)}")
    return CacheIndex(plan, shards)


def write_index(folder: Path, index: CacheIndex) -> None:
    """Write index.json, whole or not at all."""
    shards = None if index.shards is None else [asdict(shard) for shard in index.shards]
    _write_json(folder / INDEX, {"format": FORMAT, "plan": asdict(index.plan), "shards": shards})


def start_or_go_on(folder: Path, plan: CachePlan) -> None:
    """Note the plan in a new cache, or see that an old one follows the same.

    Raises:
        InputError: the cache in `folder` is of another data set, autoencoder or form.
    """
    if not is_cache(folder):
        write_index(folder, CacheIndex(plan))
        return
    old = read_index(folder).plan
    changed = [
        f"{entry.name} {_short(getattr(old, entry.name))} -> {_short(getattr(plan, entry.name))}"
        for entry in fields(CachePlan)
        if entry.name not in NAMES_ONLY and getattr(old, entry.name) != getattr(plan, entry.name)
        if entry.name != "files_crc32" or old.files_crc32 is not None
    ]
    if changed:
        raise InputError(
            f"{folder} holds a cache of another kind, because these changed: {', '.join(changed)}. Put them back to go "
            "on with it, or choose another --out"
        )


def finished_shard(folder: Path, plan: CachePlan, shard: int) -> ShardRecord | None:
    """The record of a shard that is there in its full size, else None. Checksums are for `verify_cache`."""
    record_path = (folder / plan.shard_name(shard)).with_suffix(".json")
    try:
        record = ShardRecord(**read_json(record_path))
        whole = record.file == plan.shard_name(shard) and (folder / record.file).stat().st_size == record.bytes
    except (OSError, ValueError, TypeError):
        return None
    return record if whole else None


def write_record(folder: Path, record: ShardRecord) -> None:
    """Note that a shard is finished."""
    _write_json((folder / record.file).with_suffix(".json"), asdict(record))


def complete_index(folder: Path, plan: CachePlan) -> bool:
    """Write the list of shards into the index if all of them are finished. Returns whether they are."""
    records = [finished_shard(folder, plan, shard) for shard in range(plan.num_shards)]
    found = [record for record in records if record is not None]
    if len(found) < len(records):
        return False
    write_index(folder, CacheIndex(plan, found))
    return True


def _write_json(path: Path, content: Mapping[str, Any]) -> None:
    with atomic_write(path, "w") as file:
        json.dump(content, file, indent=1)


def _short(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:37] + "..."
