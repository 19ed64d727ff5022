"""Packs the four original MNIST files into src/flowgression/data/files/mnist.npz: `python tools/pack_mnist.py FOLDER`.

FOLDER holds train-images-idx3-ubyte, train-labels-idx1-ubyte, t10k-images-idx3-ubyte and t10k-labels-idx1-ubyte.
Entries carry no time of day, so the same input and zlib give the same bytes.
"""

import argparse
import zipfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from flowgression.errors import InputError
from flowgression.files import atomic_write

SOURCES = {
    "train_images": "train-images-idx3-ubyte",
    "train_labels": "train-labels-idx1-ubyte",
    "test_images": "t10k-images-idx3-ubyte",
    "test_labels": "t10k-labels-idx1-ubyte",
}
UINT8 = 0x08
TARGET = Path(__file__).parents[1] / "src" / "flowgression" / "data" / "files" / "mnist.npz"


def read_idx(path: Path) -> NDArray[np.uint8]:
    """Read an uint8 array in IDX format: two zero bytes, type, rank, big-endian int32 shape, then the values."""
    data = path.read_bytes()
    if len(data) < 4 or data[:2] != b"\0\0" or data[2] != UINT8:
        raise InputError(f"{path} is not an IDX file of unsigned bytes")
    rank = data[3]
    shape = tuple(int(n) for n in np.frombuffer(data, dtype=">i4", count=rank, offset=4))
    values = np.frombuffer(data, dtype=np.uint8, offset=4 + 4 * rank)
    if values.size != np.prod(shape):
        raise InputError(f"{path} holds {values.size} values, its header says {shape}")
    return values.reshape(shape)


def pack(folder: Path, target: Path) -> None:
    """Write the arrays of the IDX files in `folder` to the compressed `target` that `load_mnist` reads."""
    arrays = {name: read_idx(folder / source) for name, source in SOURCES.items()}
    with atomic_write(target) as file, zipfile.ZipFile(file, "w") as archive:
        for name, array in arrays.items():
            entry = zipfile.ZipInfo(f"{name}.npy")
            entry.compress_type = zipfile.ZIP_DEFLATED
            with archive.open(entry, "w") as member:
                np.lib.format.write_array(member, array, allow_pickle=False)


def main() -> None:
    parser = argparse.ArgumentParser(description="Pack the four original MNIST files into one.")
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path, default=TARGET)
    arguments = parser.parse_args()
    pack(arguments.folder, arguments.out)
    print(f"{arguments.out}: {arguments.out.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
