"""Reading npz files without loading them whole, and errors that say what is broken.

An npz file is a zip file of npy files; one of them can be decompressed from front to back a few rows at a time.
"""

import math
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from tokenize import TokenError
from typing import Any

import numpy as np
from numpy.lib import format as npy
from numpy.typing import NDArray

from flowgression.errors import InputError, did_you_mean

# NotImplementedError is zipfile's for a compression that it does not know.
MOST_RATIO = 1032  # of deflate: bytes that one byte can stand for
BROKEN = (zipfile.BadZipFile, zlib.error, ValueError, EOFError, OSError, NotImplementedError, TokenError)


class NpzArray:
    """One array of an npz file; its header is read at once, its content by `read`."""

    def __init__(self, path: Path, name: str, any_order: bool = False) -> None:
        names = npz_names(path)
        if name not in names:
            raise InputError(f"{path} holds no array {name!r}: {did_you_mean(name, names)}")
        self.path = path
        self._member = f"{name}.npy"
        try:
            with zipfile.ZipFile(path) as archive, archive.open(self._member) as file:
                self.shape, fortran, self.dtype = _header(file)
                _check_size(path, archive.getinfo(self._member), file.tell(), self.shape, self.dtype)
        except BROKEN as error:
            raise _corrupt(path, error) from error
        if (fortran and not any_order) or self.dtype.hasobject:
            raise InputError(f"{path}: {name} is stored by columns or as objects; save it again with numpy.savez")

    def read(self, start: int, stop: int, batch_size: int) -> Iterator[NDArray[Any]]:
        """The rows start .. stop - 1, at most `batch_size` at a time.

        Raises:
            InputError: the file is truncated or its checksum is wrong.
        """
        row = int(np.prod(self.shape[1:])) * self.dtype.itemsize
        try:
            with zipfile.ZipFile(self.path) as archive, archive.open(self._member) as file:
                _header(file)
                for first in range(0, start, batch_size):
                    file.read(row * min(batch_size, start - first))
                for first in range(start, stop, batch_size):
                    count = min(batch_size, stop - first)
                    content = file.read(row * count)
                    if len(content) != row * count:
                        raise EOFError("the array ends early")
                    yield np.frombuffer(bytearray(content), dtype=self.dtype).reshape(count, *self.shape[1:])
        except BROKEN as error:
            raise _corrupt(self.path, error) from error


def npz_names(path: Path) -> list[str]:
    """Names of the arrays in an npz file; InputError if there is no such file or it is none."""
    if not path.is_file():
        raise InputError(f"there is no file {path}; check the name")
    try:
        with zipfile.ZipFile(path) as archive:
            return [name.removesuffix(".npy") for name in archive.namelist()]
    except BROKEN as error:
        raise _corrupt(path, error) from error


def read_small_array(path: Path, name: str) -> NDArray[Any] | None:
    """An array of an npz file as a whole, or None if the file has none of this name; InputError if it is damaged."""
    if name not in npz_names(path):
        return None
    NpzArray(path, name, any_order=True)  # what its header claims is there
    try:
        with np.load(path, allow_pickle=False) as content:
            return content[name]
    except BROKEN as error:
        raise _corrupt(path, error) from error


def read_npz_text(path: Path, name: str) -> str | None:
    """A text stored in an npz file as a 0-dimensional array, or None."""
    array = read_small_array(path, name)
    return None if array is None else str(array)


def _check_size(path: Path, member: zipfile.ZipInfo, header: int, shape: tuple[int, ...], dtype: np.dtype[Any]) -> None:
    """Raise ValueError for an array that claims more than the file can hold, before memory is taken for it."""
    claimed = math.prod(shape) * dtype.itemsize
    if not dtype.hasobject and claimed != member.file_size - header:
        raise ValueError(f"an array of {list(shape)} {dtype} has {claimed:,} bytes, not {member.file_size - header:,}")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        raise ValueError("it is compressed in a way that numpy does not write")
    if member.file_size > MOST_RATIO * min(member.compress_size, path.stat().st_size) + MOST_RATIO:
        raise ValueError(f"it claims {member.file_size:,} bytes, more than {path.stat().st_size:,} can hold")


def _header(file: Any) -> tuple[tuple[int, ...], bool, np.dtype[Any]]:
    version = npy.read_magic(file)
    return npy.read_array_header_1_0(file) if version == (1, 0) else npy.read_array_header_2_0(file)


def _corrupt(path: Path, error: object) -> InputError:
    return InputError(f"{path} is truncated, damaged or no npz file ({error}); copy or make it again")
