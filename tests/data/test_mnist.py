import hashlib
import struct
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest

from flowgression import InputError
from flowgression.data import DataConfig, load_mnist, open_dataset
from tests.scripts import load_script

FILES = files("flowgression.data") / "files"


def idx_bytes(array: np.ndarray) -> bytes:
    """The IDX file of an array: magic 0, 0, 8 (unsigned byte), rank; big-endian shape; values."""
    return bytes([0, 0, 8, array.ndim]) + struct.pack(f">{array.ndim}i", *array.shape) + array.tobytes()


def test_arrays_are_the_original_files() -> None:
    readme = (FILES / "README.md").read_text()
    for split, stem in (("train", "train"), ("test", "t10k")):
        images, labels = load_mnist(split)
        for array, name in ((images, f"{stem}-images-idx3-ubyte"), (labels, f"{stem}-labels-idx1-ubyte")):
            digest = hashlib.sha256(idx_bytes(array.astype(np.uint8))).hexdigest()
            assert f"| {name} | {digest} |" in readme


def test_counts_and_types() -> None:
    everything = load_mnist("all")
    assert everything.images.shape == (70_000, 28, 28)
    assert everything.images.dtype == np.uint8
    assert everything.labels.dtype == np.int64
    # Known counts of the digits 0 to 9 in train and test.
    train = [5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949]
    test = [980, 1135, 1032, 1010, 982, 892, 958, 1028, 974, 1009]
    assert np.bincount(everything.labels[:60_000]).tolist() == train
    assert np.bincount(everything.labels[60_000:]).tolist() == test
    assert load_mnist("train").labels[:5].tolist() == [5, 0, 4, 1, 9]


def test_package_file_is_at_most_13_mb() -> None:
    assert len((FILES / "mnist.npz").read_bytes()) <= 13e6


def test_unknown_split_names_the_nearest() -> None:
    with pytest.raises(InputError, match="did you mean 'test'"):
        load_mnist("tset")


def test_packing_keeps_the_arrays_and_is_repeatable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("tools/pack_mnist.py", monkeypatch)
    random = np.random.default_rng(0)
    arrays = {}
    for name, source in script.SOURCES.items():
        shape = (3, 28, 28) if name.endswith("images") else (3,)
        arrays[name] = random.integers(0, 256, shape, dtype=np.uint8)
        (tmp_path / source).write_bytes(idx_bytes(arrays[name]))
    script.pack(tmp_path, tmp_path / "a.npz")
    script.pack(tmp_path, tmp_path / "b.npz")
    assert (tmp_path / "a.npz").read_bytes() == (tmp_path / "b.npz").read_bytes()
    with np.load(tmp_path / "a.npz", allow_pickle=False) as packed:
        for name, array in arrays.items():
            np.testing.assert_array_equal(packed[name], array)


def test_files_of_another_format_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    script = load_script("tools/pack_mnist.py", monkeypatch)
    for data in (b"", b"\0\0\x0d\x01\0\0\0\x01", b"\0\0\x08\x01\0\0\0\x05abc"):
        (tmp_path / "x").write_bytes(data)
        with pytest.raises(InputError, match="x"):
            script.read_idx(tmp_path / "x")


def test_dataset_values_channels_and_flip() -> None:
    dataset = open_dataset(DataConfig(split="test", channels=3))
    images, labels = load_mnist("test")
    assert (len(dataset), dataset.num_classes, dataset.channels, dataset.image_size) == (10_000, 10, 3, 28)
    assert dataset.class_names[7] == "seven"
    np.testing.assert_array_equal(dataset.labels, labels)
    item = dataset[(5, False)]
    expected = images[5].astype(np.float32) / np.float32(127.5) - 1
    np.testing.assert_array_equal(item.numpy(), np.stack([expected] * 3))
    np.testing.assert_array_equal(dataset[(5, True)].numpy(), item.numpy()[..., ::-1])
    assert item.min() == -1.0
    assert item.max() <= 1.0


@pytest.mark.parametrize("size", [14, 32])
def test_resized_digits_agree_with_pillow(size: int) -> None:
    from PIL import Image

    from flowgression.data.transforms import centre_crop

    dataset = open_dataset(DataConfig(split="test", image_size=size))
    assert dataset.image_size == size
    images = load_mnist("test").images[:50]
    expected = np.stack([np.asarray(centre_crop(Image.fromarray(image), size)) for image in images])
    # Both round to uint8 after each of the two passes, so they may differ by a unit or two.
    assert np.abs(dataset.pixels(range(50))[:, 0].numpy().astype(int) - expected).max() <= 2
