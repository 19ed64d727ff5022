"""Sets of images by name: kinds, slices, and files that are broken or of something else."""

import io
import struct
import tracemalloc
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.lib import format as npy
from PIL import Image

from flowgression import InputError
from flowgression.data import load_mnist
from flowgression.evaluation import ImageSet, load_extractor, open_image_set
from flowgression.evaluation.npz import read_small_array


def content(images: ImageSet, batch_size: int = 7) -> np.ndarray:
    return torch.cat(list(images.batches(batch_size))).permute(0, 2, 3, 1).numpy()


def write_pngs(folder: Path, images: np.ndarray) -> None:
    folder.mkdir(parents=True)
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:03d}.png")


def test_an_npz_is_read_in_parts(digits: Path) -> None:
    expected = load_mnist("test")
    images = open_image_set(str(digits))
    assert len(images) == 40
    assert images.labels.tolist() == expected.labels[:40].tolist()
    np.testing.assert_array_equal(content(images)[..., 0], expected.images[:40])
    part = open_image_set(f"{digits}[5:18]")
    np.testing.assert_array_equal(content(part)[..., 0], expected.images[5:18])
    assert part.labels.tolist() == expected.labels[5:18].tolist()


def test_splits_and_slices_of_the_digits() -> None:
    expected = load_mnist("test")
    images = open_image_set("mnist:test[100:130]")
    np.testing.assert_array_equal(content(images)[..., 0], expected.images[100:130])
    assert images.labels.tolist() == expected.labels[100:130].tolist()
    small = open_image_set("mnist:test[:3]", image_size=16)
    assert content(small).shape == (3, 16, 16, 1)
    assert "bicubic" in small.facts["data_resize_filter"]


def test_folders_with_and_without_classes(tmp_path: Path) -> None:
    pictures = load_mnist("test").images[:6]
    write_pngs(tmp_path / "loose", pictures)
    (tmp_path / "loose" / "._0.png").write_bytes(b"what macOS leaves beside each file")
    loose = open_image_set(str(tmp_path / "loose"))
    assert loose.labels is None
    np.testing.assert_array_equal(content(loose)[..., 0], pictures)
    write_pngs(tmp_path / "classes" / "a", pictures[:2])
    write_pngs(tmp_path / "classes" / "b", pictures[2:])
    classes = open_image_set(f"{tmp_path / 'classes'}/")
    assert classes.labels.tolist() == [0, 0, 1, 1, 1, 1]
    assert classes.classes.titles == ["a", "b"]


def test_images_of_mixed_sizes_are_refused_with_the_way_out(tmp_path: Path) -> None:
    write_pngs(tmp_path / "mixed", load_mnist("test").images[:2])
    Image.new("L", (40, 30)).save(tmp_path / "mixed" / "large.png")
    with pytest.raises(InputError, match=r"not of one square size; set --image-size"):
        open_image_set(str(tmp_path / "mixed"))
    assert content(open_image_set(str(tmp_path / "mixed"), image_size=14)).shape == (3, 14, 14, 1)


def test_broken_files_are_named(tmp_path: Path, digits: Path) -> None:
    whole = digits.read_bytes()
    cut = tmp_path / "cut.npz"
    cut.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(InputError, match=r"cut.npz is truncated, damaged or no npz"):
        open_image_set(str(cut))
    flipped = tmp_path / "flipped.npz"
    flipped.write_bytes(whole[:2000] + bytes([whole[2000] ^ 0xFF]) + whole[2001:])
    with pytest.raises(InputError, match=r"flipped.npz is truncated, damaged"):
        content(open_image_set(str(flipped)))
    text = tmp_path / "text.npz"
    text.write_text("no zip file")
    with pytest.raises(InputError, match=r"text.npz is truncated, damaged or no npz"):
        open_image_set(str(text))
    with pytest.raises(InputError, match=r"no file"):
        open_image_set(str(tmp_path / "missing.npz"))


def claiming(path: Path, shape: tuple[int, ...], size: int | None = None) -> Path:
    """A small npz whose arr_0 says that it has this shape; the directory of the archive agrees if `size` is given."""
    header = io.BytesIO()
    npy.write_array_header_1_0(header, {"descr": "|u1", "fortran_order": False, "shape": shape})
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("arr_0.npy", header.getvalue() + bytes(1000))
        archive.writestr("labels.npy", header.getvalue() + bytes(1000))
    if size is not None:
        content, real = path.read_bytes(), len(header.getvalue()) + 1000
        path.write_bytes(content.replace(struct.pack("<I", real), struct.pack("<I", size)))
    return path


@pytest.mark.parametrize("size", [None, 2**32 - 2])
def test_arrays_that_claim_more_than_there_is(tmp_path: Path, size: int | None) -> None:
    """Three terabytes, refused from the header: next to no memory is taken."""
    path = claiming(tmp_path / "x.npz", (10**9, 32, 32, 3) if size is None else (2**32 - 130, 1, 1, 1), size)
    tracemalloc.start()
    for read in (lambda: open_image_set(str(path)), lambda: read_small_array(path, "labels")):
        with pytest.raises(InputError, match=r"x\.npz is truncated, damaged"):
            read()
    assert tracemalloc.get_traced_memory()[1] < 2**22
    tracemalloc.stop()


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"arr_1": np.zeros(3)}, "no array 'arr_0': did you mean 'arr_1'"),
        ({"arr_0": np.zeros((3, 4, 4, 3))}, r"arr_0 must be uint8 \[N,H,W,1 or 3\]; it is float64"),
        ({"arr_0": np.zeros((3, 4, 4), dtype=np.uint8)}, r"it is uint8 \[3, 4, 4\]"),
        ({"arr_0": np.zeros((3, 4, 4, 1), dtype=np.uint8), "labels": np.zeros(2, dtype=np.int64)}, "labels must be"),
        ({"arr_0": np.zeros((0, 4, 4, 1), dtype=np.uint8)}, "holds no images"),
    ],
)
def test_arrays_of_something_else_are_refused(tmp_path: Path, arrays: dict, message: str) -> None:
    np.savez(tmp_path / "x.npz", **arrays)
    with pytest.raises(InputError, match=message):
        open_image_set(str(tmp_path / "x.npz"))


def test_many_classes_are_named_with_their_settings() -> None:
    found = open_image_set("mnist-classes:test,num_classes=40,held_out=10,part=held-out[0:25]", 16)
    assert (len(found), len(found.classes), found.facts["channels"]) == (25, 10, 3)
    assert found.labels is not None
    assert found.labels.tolist() == [*range(10), *range(10), *range(5)]
    assert len(open_image_set("mnist-classes").classes) == 100
    with pytest.raises(InputError, match="did you mean 'num_classes'"):
        open_image_set("mnist-classes:test,num_clases=40")


def test_features_of_channels_tell_colours_that_the_luminance_does_not() -> None:
    red = torch.zeros(1, 3, 16, 16, dtype=torch.uint8)
    red[:, 0, 4:12, 6:9] = 200
    blue = red.flip(1)
    rgb = load_extractor("mnist-rgb")
    first, second = rgb(red), rgb(blue)
    assert first.features.shape == (1, 192)
    assert first.logits is None
    torch.testing.assert_close(first.features.unflatten(1, (3, 64)).flip(1).flatten(1), second.features)
    assert (first.features - second.features).abs().max() > 0.1
    grey = red[:, :1]
    torch.testing.assert_close(rgb(grey).features, load_extractor("mnist")(grey).features.repeat(1, 3))
