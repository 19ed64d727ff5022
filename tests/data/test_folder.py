import os
import warnings
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image, features

from flowgression import InputError
from flowgression.data import DataConfig, SequenceBatchSampler, make_loader, open_dataset
from flowgression.data.dataset import DecodedImages, MemoryImages

CACHE = {"memory": 512, "decoded": 0}  # cache_limit_mb
MIXED = ((20, 30), (30, 20), (16, 16), (40, 17))


def levels(dataset) -> list[int]:
    """The grey level of every image, from its centre."""
    half = dataset.image_size // 2
    return dataset.pixels(range(len(dataset)))[:, 0, half, half].tolist()


@pytest.mark.parametrize("kind", CACHE)
def test_classes_are_folders_in_order_of_their_names(make_folder, kind) -> None:
    folder = make_folder({"b": 2, "a": 3, "c": 1}, MIXED)
    (folder / "a" / "notes.txt").write_text("not an image")
    (folder / ".hidden").mkdir()
    dataset = open_dataset(DataConfig(str(folder), image_size=16, channels=1, cache_limit_mb=CACHE[kind]))
    assert isinstance(dataset, {"memory": MemoryImages, "decoded": DecodedImages}[kind])
    assert dataset.class_names == ["a", "b", "c"]
    assert dataset.labels.tolist() == [0, 0, 0, 1, 1, 2]
    assert levels(dataset) == [2, 3, 4, 0, 1, 5]
    assert dataset[(0, False)].shape == (1, 16, 16)
    assert dataset[(0, False)].dtype == torch.float32


def test_cached_and_decoded_images_are_equal(make_folder) -> None:
    folder = make_folder({"a": 3}, MIXED)
    random = np.random.default_rng(0)
    for index, mode in enumerate(("RGB", "L", "RGBA", "P")):
        noise = Image.fromarray(random.integers(0, 256, (25, 35, 3), dtype=np.uint8))
        noise.convert(mode).save(folder / "a" / f"n{index}.png")
    cached, decoded = (open_dataset(DataConfig(str(folder), image_size=16, cache_limit_mb=m)) for m in (512, 0))
    indices, flips = list(range(7)), [True, False] * 3 + [True]
    assert torch.equal(cached.batch(indices, flips), decoded.batch(indices, flips))
    assert torch.equal(cached.batch(indices, flips)[3], cached[(3, False)])


def test_nested_files_links_and_endings(make_folder, tmp_path) -> None:
    folder = make_folder({"a": 1})
    (folder / "a" / "deep" / "er").mkdir(parents=True)
    image = Image.new("RGB", (12, 12))
    for name in ("x.JPG", "x.jpeg", "x.webp", "x.bmp", "x.tif", "x.gif"):
        image.save(folder / "a" / "deep" / "er" / name)
    os.symlink(folder / "a", folder / "a" / "deep" / "loop")
    os.symlink(make_folder({"elsewhere": 2}, root="other") / "elsewhere", folder / "b")
    dataset = open_dataset(DataConfig(str(folder)))
    assert np.bincount(dataset.labels).tolist() == [7, 2]


def test_size_and_channels_follow_the_images(make_folder) -> None:
    folder = make_folder({"a": 2})
    assert open_dataset(DataConfig(str(folder))).image_size == 12
    assert open_dataset(DataConfig(str(folder))).channels == 3
    for file in folder.rglob("*.png"):
        Image.open(file).convert("L").save(file)
    assert open_dataset(DataConfig(str(folder))).channels == 1


def test_mixed_sizes_need_an_image_size(make_folder) -> None:
    with pytest.raises(InputError, match=r"16 x 16 to 40 x 17 .* data\.image_size"):
        open_dataset(DataConfig(str(make_folder({"a": 4}, MIXED))))


def test_enlarged_images_are_counted(make_folder) -> None:
    with pytest.warns(UserWarning, match=r"3 of 4 images are smaller than data\.image_size 20"):
        open_dataset(DataConfig(str(make_folder({"a": 4}, ((19, 40), (16, 16), (30, 30), (40, 17)))), image_size=20))


def test_subfolders_named_as_splits_are_splits(make_folder) -> None:
    folder = make_folder({"train/a": 2, "train/b": 1, "test/a": 1})
    assert len(open_dataset(DataConfig(str(folder)))) == 3
    assert len(open_dataset(DataConfig(str(folder), split="test"))) == 1
    with pytest.raises(InputError, match="did you mean 'test'"):
        open_dataset(DataConfig(str(folder), split="tets"))


def test_wrong_folders_are_explained(make_folder, tmp_path) -> None:
    folder = make_folder({"a": 2})
    (tmp_path / "empty").mkdir()
    (tmp_path / "hollow" / "a").mkdir(parents=True)
    cases = {
        "mnits": "did you mean 'mnist'",
        str(tmp_path / "imagse"): f"did you mean '{folder}'",
        str(folder / "a" / "0000.png"): "is a file",
        str(tmp_path / "empty"): "no images and no class folders",
        str(tmp_path / "hollow"): "no images in its folders a",
    }
    for path, message in cases.items():
        with pytest.raises(InputError, match=message):
            open_dataset(DataConfig(path))
    with pytest.raises(InputError, match="no split 'test'"):
        open_dataset(DataConfig(str(folder), split="test"))


def test_loose_images_are_one_class_of_the_folders_name(make_folder) -> None:
    folder = make_folder({"holidays": 3}) / "holidays"
    dataset = open_dataset(DataConfig(str(folder)))
    assert dataset.class_names == ["holidays"]
    assert dataset.labels.tolist() == [0, 0, 0]


def test_loose_images_beside_classes_are_left_out_with_a_warning(make_folder) -> None:
    folder = make_folder({"a": 2, "b": 2})
    (folder / "a" / "0000.png").rename(folder / "loose.png")
    with pytest.warns(UserWarning, match=r"1 images beside the class folders.*loose\.png"):
        dataset = open_dataset(DataConfig(str(folder)))
    assert dataset.labels.tolist() == [0, 1, 1]


def test_a_folder_that_may_not_be_read_is_named(make_folder, monkeypatch) -> None:
    folder = make_folder({"a": 2, "b": 2})
    scandir = os.scandir

    def guarded(path):
        if str(path) == str(folder / "b"):
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", guarded)
    with pytest.raises(InputError, match=f"no permission to read {folder / 'b'}"):
        open_dataset(DataConfig(str(folder)))


def test_a_class_folder_without_images_is_left_out_with_a_warning(make_folder) -> None:
    folder = make_folder({"a": 2})
    (folder / "notes").mkdir()
    with pytest.warns(UserWarning, match="notes"):
        assert open_dataset(DataConfig(str(folder))).class_names == ["a"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no pipes here")
def test_pipes_and_devices_are_no_images(make_folder) -> None:
    """Each is named as broken; a pipe is not waited for."""
    folder = make_folder({"a": 2, "b": 2})
    os.mkfifo(folder / "a" / "pipe.png")
    (folder / "a" / "zero.png").symlink_to("/dev/zero")
    with pytest.raises(InputError, match=r"2 of 6 images .*pipe\.png \(OSError: .*no regular file"):
        open_dataset(DataConfig(str(folder)))


# Broken images: 3 classes of 40, the folder of 120 that must survive one broken file.


def break_header(path: Path) -> None:
    path.write_bytes(b"not an image at all")


@pytest.mark.parametrize("damage", ["header", "pixels"])
def test_one_broken_image_in_120_is_left_out_with_one_warning(make_folder, truncate, damage) -> None:
    folder = make_folder({"a": 40, "b": 40, "c": 40}, MIXED)
    {"header": break_header, "pixels": truncate}[damage](folder / "b" / "0003.png")
    with pytest.warns(UserWarning, match=r"1 of 120 images \(0.83%\) cannot be read: b/0003.png") as caught:
        dataset = open_dataset(DataConfig(str(folder), image_size=16))
    assert len(caught) == 1
    assert caught[0].filename == __file__
    assert levels(dataset) == [level for level in range(120) if level != 43]
    assert np.bincount(dataset.labels).tolist() == [40, 39, 40]


@pytest.mark.parametrize("damage", ["header", "pixels"])
def test_two_broken_images_in_120_are_an_error(make_folder, truncate, damage) -> None:
    folder = make_folder({"a": 60, "b": 60})
    for name in ("a/0000.png", "b/0001.png"):
        {"header": break_header, "pixels": truncate}[damage](folder / name)
    with pytest.raises(InputError, match=r"2 of 120 images \(1.67%\).*a/0000.png.*b/0001.png"):
        open_dataset(DataConfig(str(folder)))


def test_header_and_pixel_damage_share_one_warning(make_folder, truncate) -> None:
    folder = make_folder({"a": 200})
    break_header(folder / "a" / "0000.png")
    truncate(folder / "a" / "0001.png")
    with pytest.warns(UserWarning, match="2 of 200 images .*0000.png.*0001.png") as caught:
        assert len(open_dataset(DataConfig(str(folder)))) == 198
    assert len(caught) == 1


def test_images_that_break_while_decoding_are_replaced_by_their_class(make_folder, truncate) -> None:
    folder = make_folder({"a": 60, "b": 140})
    truncate(folder / "a" / "0059.png")
    truncate(folder / "b" / "0000.png")
    dataset = open_dataset(DataConfig(str(folder), cache_limit_mb=0))
    with pytest.warns(UserWarning, match="cannot be read") as caught:
        found = levels(dataset)
    assert len(caught) == 2
    assert "1 of 200 images" in str(caught[0].message)
    assert "2 of 200 images" in str(caught[1].message)
    assert found == [*range(59), 0, 61, *range(61, 200)]  # the next of its class, the first after the last
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert levels(dataset) == found


def test_too_many_images_that_break_while_decoding_are_an_error(make_folder, truncate) -> None:
    folder = make_folder({"a": 150})
    break_header(folder / "a" / "0000.png")
    truncate(folder / "a" / "0100.png")
    with pytest.warns(UserWarning, match="left out"):
        dataset = open_dataset(DataConfig(str(folder), cache_limit_mb=0))
    with pytest.raises(InputError, match=r"2 of 150 images .* More than 1%"):
        levels(dataset)


def test_a_class_of_one_broken_image_is_an_error(make_folder, truncate) -> None:
    folder = make_folder({"a": 199, "lonely": 1})
    truncate(folder / "lonely" / "0000.png")
    dataset = open_dataset(DataConfig(str(folder), cache_limit_mb=0))
    with pytest.warns(UserWarning, match="1 of 200"), pytest.raises(InputError, match="no image of class 'lonely'"):
        dataset.pixels([199])


def test_workers_count_broken_images_together(make_folder, truncate) -> None:
    folder = make_folder({"a": 150})
    for name in ("0010.png", "0100.png"):
        truncate(folder / "a" / name)
    dataset = open_dataset(DataConfig(str(folder), cache_limit_mb=0))
    loader = make_loader(dataset, SequenceBatchSampler(dataset.labels, 10), num_workers=2)
    # Each worker reads every other batch and meets the two at different times; together they are 1.33 %.
    with pytest.raises(InputError, match="2 of 150 images"):
        list(islice(loader, 15))


# Folders as they come.


@pytest.mark.parametrize(
    ("names", "split", "held"),
    [
        (("Train", "Test"), "train", "Train"),
        (("Train", "Test"), "test", "Test"),
        (("training", "testing"), "train", "training"),
        (("train", "test", "extra"), "extra", "extra"),
        (("TRAIN", "Val"), "validation", "Val"),
    ],
)
def test_splits_in_any_spelling(make_folder, names, split, held) -> None:
    counts = {f"{name}/{label}": 1 + (name == held) for name in names for label in ("a", "b")}
    dataset = open_dataset(DataConfig(str(make_folder(counts)), split=split))
    assert (dataset.class_names, len(dataset)) == (["a", "b"], 4)


def test_two_spellings_of_one_split_are_ambiguous(make_folder) -> None:
    with pytest.raises(InputError, match="several folders for split 'train': Train, training"):
        open_dataset(DataConfig(str(make_folder({"Train/a": 1, "training/a": 1}))))


@pytest.mark.parametrize("wrapped", ["flowers", "outer/flowers", "flowers/Train"])
def test_a_wrapper_is_no_class(make_folder, wrapped) -> None:
    folder = make_folder({f"{wrapped}/a": 1, f"{wrapped}/b": 2})
    assert open_dataset(DataConfig(str(folder))).class_names == ["a", "b"]
    single = make_folder({"cat/one/two": 2}, root="single")
    assert open_dataset(DataConfig(str(single))).class_names == ["cat"]


def test_what_computers_leave_behind_is_counted_and_no_class(make_folder) -> None:
    folder = make_folder({"2": 1, "10": 1, "@eaDir/2": 3, "__MACOSX/2": 2, "10/@eaDir": 1})
    for name, kind in (("x.jfif", "JPEG"), ("x.jpe", "JPEG")):
        Image.new("RGB", (12, 12)).save(folder / "10" / name, kind)
    (folder / "2" / "._0000.png").write_bytes(b"resource fork")
    for name in ("README", "notes.TXT", "more.txt"):
        (folder / "2" / name).write_text("text")
    dataset = open_dataset(DataConfig(str(folder)))
    assert dataset.class_names == ["2", "10"]
    assert dataset.labels.tolist() == [0, 1, 1, 1]
    assert dataset.skipped == {
        "in @eaDir": 4, "in __MACOSX": 2, "hidden": 1, "without an ending": 1, "ending in .txt": 2
    }  # fmt: skip
    line = dataset.describe()
    assert line.startswith("Data: 4 images in 2 classes: 2: 1, 10: 3. Files passed over: ")
    assert all(reason in line for reason in ("4 in @eaDir", "1 without an ending", "2 ending in .txt"))


@pytest.mark.skipif(not features.check("avif"), reason="this Pillow reads no AVIF")
def test_avif(make_folder) -> None:
    folder = make_folder({"a": 1})
    Image.new("RGB", (12, 12), "red").save(folder / "a" / "x.avif")
    assert len(open_dataset(DataConfig(str(folder)))) == 2
