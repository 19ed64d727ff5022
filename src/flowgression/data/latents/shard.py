"""One shard as a file: written in one piece, read through a memory map.

Tensors of a shard of n images, each with C channels of h x h:
  moments            [n, 2C, h, h], mean and log-variance of the posterior; [n, C, h, h] uint8 for pixels
  moments_flipped    the same of the mirrored images, where they were encoded
  labels             int64 [n]
  groups             int64 [n], where the data set has groups
  source             int64 [n], the image's number in the data set
"""

import hashlib
import mmap
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.torch
from numpy.typing import NDArray
from torch import Tensor

from flowgression.documents import parse_json
from flowgression.errors import InputError
from flowgression.files import atomic_write

# bfloat16 is unknown to NumPy; its bits travel as integers.
KINDS = {"BF16": np.uint16, "F32": np.float32, "U8": np.uint8, "I64": np.int64}


def write_shard(path: Path, tensors: dict[str, Tensor]) -> tuple[int, str]:
    """Write a shard, whole or not at all, and return its size in bytes and its SHA-256."""
    for leftover in path.parent.glob(f".{path.name}.*.tmp"):  # of a process that was killed while writing this shard
        leftover.unlink(missing_ok=True)
    content = safetensors.torch.save(tensors)
    with atomic_write(path) as file:
        file.write(content)
    return len(content), hashlib.sha256(content).hexdigest()


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


class MappedShard:
    """The arrays of a shard, read from disk as they are touched.

    Args:
        shapes: of the arrays that it has to hold, by name.

    Attributes:
        arrays: by name; bfloat16 as its bits, uint16.

    Raises:
        InputError: the file is damaged or of another form.
    """

    def __init__(self, path: Path, shapes: Mapping[str, tuple[int, ...]]) -> None:
        try:
            with path.open("rb") as file:
                self._map = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ)
            (size,) = struct.unpack("<Q", self._map[:8])
            header = parse_json(self._map[8 : 8 + size])
            self._first = 8 + size
            self._places: dict[str, Any] = {name: e for name, e in header.items() if name != "__metadata__"}
            self.arrays: dict[str, NDArray[Any]] = {name: self._array(entry) for name, entry in self._places.items()}
        except (OSError, ValueError, KeyError, TypeError, AttributeError, struct.error) as error:
            raise InputError(f"{path} is no shard of a latent cache, or a damaged one ({error})") from error
        for name, shape in shapes.items():
            found = self.arrays[name].shape if name in self.arrays else None
            if found != shape:
                what = "missing" if found is None else f"{list(found)}"
                raise InputError(
                    f"{path} is a damaged shard of a latent cache: {name} must be {list(shape)}, not {what}"
                )

    def _array(self, entry: dict[str, Any]) -> NDArray[Any]:
        start, stop = entry["data_offsets"]
        kind = np.dtype(KINDS[entry["dtype"]])
        flat = np.frombuffer(self._map, kind, (stop - start) // kind.itemsize, self._first + start)
        return flat.reshape(entry["shape"])

    def read_ahead(self, name: str, first: int, last: int) -> None:
        """Ask the system to read rows `first` to `last` of an array in one go, before they are touched."""
        if not hasattr(mmap, "MADV_WILLNEED"):
            return
        array = self.arrays[name]
        begin = self._first + self._places[name]["data_offsets"][0] + first * array.strides[0]
        page = begin - begin % mmap.PAGESIZE
        length = min(last, len(array)) * array.strides[0] - first * array.strides[0] + begin - page
        self._map.madvise(mmap.MADV_WILLNEED, page, length)
