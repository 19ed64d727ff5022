"""Image folders made on the spot; every image's grey level tells which one it is."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

MakeFolder = Callable[..., Path]


@pytest.fixture
def make_folder(tmp_path: Path) -> MakeFolder:
    """make(counts, sizes): class folders with `counts[name]` PNGs, each of one grey level, its running number."""

    def make(counts: dict[str, int], sizes: tuple[tuple[int, int], ...] = ((12, 12),), root: str = "images") -> Path:
        folder = tmp_path / root
        number = 0
        for name, count in counts.items():
            (folder / name).mkdir(parents=True)
            for index in range(count):
                width, height = sizes[index % len(sizes)]
                pixels = np.full((height, width, 3), number % 256, dtype=np.uint8)
                Image.fromarray(pixels).save(folder / name / f"{index:04}.png")
                number += 1
        return folder

    return make


def truncate(path: Path) -> None:
    """Cut an image file so that its header is whole and its pixels are not."""
    data = path.read_bytes()
    path.write_bytes(data[: data.index(b"IDAT") + 8])


@pytest.fixture(name="truncate")
def truncate_fixture() -> Callable[[Path], None]:
    return truncate
