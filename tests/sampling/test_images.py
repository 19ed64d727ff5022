"""Grids, npz and GIF files."""

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowgression import InputError
from flowgression.sampling import make_grid, save_gif, save_npz, save_png
from flowgression.sampling.images import GAP, class_rows, to_pil, to_uint8


def numbered(count: int, channels: int = 1) -> np.ndarray:
    """Images 5 high and 4 wide, image i filled with the value 10 i."""
    return np.broadcast_to(np.arange(count, dtype=np.uint8)[:, None, None, None] * 10, (count, 5, 4, channels)).copy()


@pytest.mark.parametrize(("channels", "mode"), [(1, "L"), (3, "RGB")])
def test_grid_places_every_image(channels: int, mode: str) -> None:
    grid = make_grid(numbered(5, channels), 3, scale=2)
    assert grid.mode == mode
    assert grid.size == (3 * 8 + 2 * GAP, 2 * 10 + GAP)
    pixels = np.asarray(grid).reshape(grid.height, grid.width, -1)
    for index in range(5):
        row, column = divmod(index, 3)
        top, left = row * (10 + GAP), column * (8 + GAP)
        assert (pixels[top : top + 10, left : left + 8] == 10 * index).all()
    assert (pixels[10 + GAP :, 2 * (8 + GAP) :] == 255).all()  # the place of the sixth image


def test_grid_of_one_image_is_that_image() -> None:
    images = np.arange(20, dtype=np.uint8).reshape(1, 5, 4, 1)
    np.testing.assert_array_equal(np.asarray(make_grid(images, 7)), images[0, ..., 0])


def test_captions_stand_left_of_the_images() -> None:
    plain, captioned = make_grid(numbered(4), 2, scale=8), make_grid(numbered(4), 2, scale=8, row_names=["one", "two"])
    margin = captioned.width - plain.width
    assert margin > 0
    pixels = np.asarray(captioned)
    np.testing.assert_array_equal(pixels[:, margin:], np.asarray(plain))
    for rows in (slice(0, 40), slice(40 + GAP, None)):
        assert (pixels[rows, :margin] < 128).any()


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        ([4, 2, 4, 2], ([0, 2, 1, 3], 2)),
        ([1, 1, 1], ([0, 1, 2], 3)),
        ([1, 2, 3], None),
        ([1, 2, 1], None),
        ([5], None),
    ],
)
def test_rows_of_one_class(labels: list[int], expected: tuple[list[int], int] | None) -> None:
    assert class_rows(labels) == expected


def test_rounding_is_that_of_pictures() -> None:
    assert to_uint8(np.array([0.0, 0.5 / 255 + 1e-6, 0.4 / 255, 1.0])).tolist() == [0, 1, 0, 255]


@pytest.mark.parametrize("channels", [1, 3])
def test_npz(tmp_path: Path, channels: int) -> None:
    save_npz(numbered(3, channels), [2, 0, 1], tmp_path / "a.npz")
    with np.load(tmp_path / "a.npz") as content:
        assert set(content.files) == {"arr_0", "labels"}
        np.testing.assert_array_equal(content["arr_0"], numbered(3, channels))
        assert content["arr_0"].dtype == np.uint8
        assert content["labels"].dtype == np.int64
        assert content["labels"].tolist() == [2, 0, 1]


def test_png(tmp_path: Path) -> None:
    save_png(to_pil(numbered(2)[1]), tmp_path / "a.png")
    with Image.open(tmp_path / "a.png") as picture:
        assert picture.mode == "L"
        assert (np.asarray(picture) == 10).all()


def test_gif(tmp_path: Path) -> None:
    frames = [to_pil(image) for image in numbered(7)]
    save_gif(frames, tmp_path / "a.gif", seconds=0.7, hold=2.0)
    with Image.open(tmp_path / "a.gif") as film:
        assert film.n_frames == 7
        assert film.info["loop"] == 0
        durations = []
        for index in range(7):
            film.seek(index)
            durations.append(film.info["duration"])
            assert (np.asarray(film.convert("L")) == 10 * index).all()
    assert durations == [100] * 6 + [2100]


def test_files_are_written_whole_or_not_at_all(tmp_path: Path) -> None:
    class Broken(Image.Image):
        def save(self, file, format):  # type: ignore[no-untyped-def]
            file.write(b"half")
            raise OSError("disk full")

    with pytest.raises(OSError, match="disk full"):
        save_png(Broken(), tmp_path / "a.png")
    assert list(tmp_path.iterdir()) == []


def test_wrong_input(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="expected uint8"):
        to_pil(np.zeros((4, 4, 2), dtype=np.uint8))
    with pytest.raises(InputError, match="at least 1"):
        make_grid(numbered(0), 1)
    with pytest.raises(InputError, match="2 labels"):
        save_npz(numbered(3), [0, 1], tmp_path / "a.npz")
    with pytest.raises(InputError, match="expected images uint8"):
        save_npz(numbered(3).astype(np.float32), [0, 1, 2], tmp_path / "a.npz")
    with pytest.raises(InputError, match="at least one frame"):
        save_gif([], tmp_path / "a.gif")
