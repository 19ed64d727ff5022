"""Parts of many images: what is kept, what is refused, and the npz they become."""

import io
import json
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch

from flowgression import InputError
from flowgression.sampling.parts import NpzParts, PngParts, weights_checksum, write_npz

FACTS = {"model": "tiny", "seed": 3, "batch_size": 4, "versions": {"torch": "1"}, "device": "cpu"}
NAMES = {0: "zero", 1: "one, uno"}


def images(count: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, (count, 5, 6, 1), dtype=np.uint8)


@pytest.mark.parametrize("sizes", [[4, 4, 4], [4, 4, 1], [1]])
def test_the_npz_is_what_numpy_would_write_and_is_written_part_by_part(sizes: list[int], tmp_path: Path) -> None:
    whole, written = images(sum(sizes)), []
    path = tmp_path / "a.npz"

    def parts() -> Iterator[np.ndarray]:
        for index, size in enumerate(sizes):
            written.append(path.stat().st_size + file.tell())
            yield whole[sum(sizes[:index]) :][:size]

    with path.open("wb") as file:
        assert write_npz(file, parts(), list(range(len(whole))), FACTS) == whole.shape
    assert written == sorted(set(written))  # each part is in the file before the next is asked for
    with np.load(path) as content:
        assert sorted(content.files) == ["arr_0", "labels", "sampling"]
        np.testing.assert_array_equal(content["arr_0"], whole)
        assert content["arr_0"].dtype == np.uint8
        np.testing.assert_array_equal(content["labels"], np.arange(len(whole)))
        assert content["labels"].dtype == np.int64
        assert json.loads(str(content["sampling"])) == FACTS


def test_an_npz_with_gaps_is_refused() -> None:
    with pytest.raises(InputError, match="3 images for 4 labels"):
        write_npz(io.BytesIO(), [images(3)], [0] * 4)
    with pytest.raises(InputError, match=r"expected images uint8 \[B,\(5, 6, 1\)\]; got uint8 \[2, 6, 5, 1\]"):
        write_npz(io.BytesIO(), [images(2), images(2).transpose(0, 2, 1, 3)], [0] * 4)


def test_npz_parts_wait_for_each_other(tmp_path: Path) -> None:
    out, labels, whole = tmp_path / "a.npz", [0, 1] * 5, images(10)
    parts = NpzParts(out, labels, 4, FACTS)
    assert parts.missing() == [0, 1, 2]
    assert not parts.kept_in.exists()
    for number in (2, 0):
        parts.write(number, whole[4 * number :][:4])
    again = NpzParts(out, labels, 4, FACTS | {"versions": {"torch": "2"}, "device": "cuda"})
    assert again.missing() == [1]
    again.write(1, whole[4:8])
    (again.kept_in / "whole.npz").write_bytes(b"of a killed run")
    assert again.finish() == f"{out}: arr_0 uint8 [10, 5, 6, 1], labels [10]"
    assert [file.name for file in tmp_path.iterdir()] == ["a.npz"]
    with np.load(out) as content:
        np.testing.assert_array_equal(content["arr_0"], whole)


def test_a_folder_has_every_image_once(tmp_path: Path) -> None:
    folder, labels, whole = tmp_path / "images", [0, 1, 2], images(3)
    parts = PngParts(folder, labels, 2, FACTS, NAMES)
    assert parts.missing() == [0, 1]
    parts.write(1, whole[2:])
    parts.write(0, whole[:2])
    (folder / "000001-one_uno.png").unlink()  # half a batch is no batch
    (folder / ".000001-one_uno.png.x7.tmp").write_bytes(b"of a killed run")
    assert parts.missing() == [0]
    parts.write(0, whole[:2])
    assert parts.missing() == []
    assert parts.finish() == f"3 PNG files to {folder}/"
    names = ["000000-zero.png", "000001-one_uno.png", "000002-2.png", "sampling.json"]
    assert sorted(file.name for file in folder.iterdir()) == names


def test_parts_of_another_sampling_are_refused(tmp_path: Path) -> None:
    out, labels = tmp_path / "a.npz", [0] * 4
    NpzParts(out, labels, 4, FACTS).write(0, images(4))
    with pytest.raises(InputError, match=r"a.npz.parts holds finished parts of another sampling \(seed 3 -> 4\)"):
        NpzParts(out, labels, 4, FACTS | {"seed": 4}).missing()
    (tmp_path / "a.npz.parts" / "sampling.json").write_text("{")
    with pytest.raises(InputError, match=r"cannot read .*sampling.json.*; remove .*a.npz.parts to start anew"):
        NpzParts(out, labels, 4, FACTS).missing()


def test_images_of_unknown_origin_are_refused(tmp_path: Path) -> None:
    (tmp_path / "000007-three.png").write_bytes(b"")
    with pytest.raises(InputError, match="already holds numbered images; choose another folder"):
        PngParts(tmp_path, [0], 1, FACTS, NAMES).missing()


def test_too_little_space_is_found_with_the_first_batch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    free = type("Usage", (), {"free": 10 * 2**20})
    monkeypatch.setattr("flowgression.sampling.parts.shutil.disk_usage", lambda path: free)
    parts = NpzParts(tmp_path / "a.npz", [0] * 10**6, 4, FACTS)
    with pytest.raises(InputError, match="has 10 MiB free, but these images need about 57 MiB"):
        parts.write(0, images(4))
    assert list(tmp_path.iterdir()) == []


def test_other_weights_have_another_checksum() -> None:
    model = torch.nn.Linear(70, 70)
    before = weights_checksum(model)
    assert weights_checksum(model) == before
    with torch.no_grad():
        model.bias.mul_(1.0001)
    assert weights_checksum(model) != before
