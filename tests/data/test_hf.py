import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from flowgression import InputError
from flowgression.data import DataConfig, open_dataset

datasets = pytest.importorskip("datasets")


def table(labels: list, feature: object, **columns: object):
    """A data set with one grey 8 x 8 image per label, its level the row's number."""
    images = [Image.new("L", (8, 8), row) for row in range(len(labels))]
    features = datasets.Features({"picture": datasets.Image(), "label": feature})
    return datasets.Dataset.from_dict({"picture": images, "label": labels}, features=features)


@pytest.mark.parametrize("cache", [512, 0])
def test_saved_data_set(tmp_path: Path, cache: int) -> None:
    names = datasets.ClassLabel(names=["cat", "dog", "eel"])
    datasets.DatasetDict({"train": table([2, 0, 0], names), "test": table([1], names)}).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(DataConfig(str(tmp_path / "saved"), cache_limit_mb=cache))
    assert dataset.class_names == ["cat", "dog", "eel"]
    assert dataset.labels.tolist() == [2, 0, 0]
    assert (dataset.image_size, dataset.channels) == (8, 1)
    assert dataset.pixels([0, 1, 2])[:, 0, 0, 0].tolist() == [0, 1, 2]
    assert open_dataset(DataConfig(str(tmp_path / "saved"), split="test")).labels.tolist() == [1]
    with pytest.raises(InputError, match="did you mean 'train'"):
        open_dataset(DataConfig(str(tmp_path / "saved"), split="trian"))


@pytest.mark.parametrize(("labels", "kind"), [([30, 10, 30], "int64"), (["c", "a", "c"], "string")])
def test_labels_without_names_are_numbered(tmp_path: Path, labels: list, kind: str) -> None:
    table(labels, datasets.Value(kind)).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(DataConfig(str(tmp_path / "saved")))
    assert dataset.labels.tolist() == [1, 0, 1]
    assert dataset.class_names == sorted({str(label) for label in labels})


def test_replaced_images_are_noticed(make_folder, tmp_path: Path, monkeypatch) -> None:
    """By the bytes in the table, or by the files that it names; of the rows that are left in, and wherever it lies."""

    def checksum(images: list) -> int:
        features = datasets.Features({"picture": datasets.Image(), "label": datasets.Value("int64")})
        rows = datasets.Dataset.from_dict({"picture": images, "label": [0] * len(images)}, features=features)
        folder = tmp_path / f"saved{len(list(tmp_path.iterdir()))}"
        rows.save_to_disk(folder)
        return open_dataset(DataConfig(str(folder))).files_crc32

    monkeypatch.setattr("flowgression.data.hf.CHUNK", 2)
    images = [Image.new("L", (8, 8), row) for row in range(5)]
    before = checksum(images)
    assert checksum(images) == before
    images[3] = Image.new("L", (8, 8), 70)
    assert checksum(images) != before
    folder = make_folder({"a": 3})
    files = [{"path": str(path), "bytes": None} for path in sorted((folder / "a").iterdir())]
    named = open_files(tmp_path / "named", files)
    assert named == open_dataset(DataConfig(str(folder))).files_crc32
    Image.new("L", (12, 12), 99).save(files[1]["path"])
    assert open_files(tmp_path / "again", files) != named


def open_files(folder: Path, files: list[dict]) -> int:
    """The checksum of a data set whose table holds paths alone."""
    import pyarrow

    features = datasets.Features({"picture": datasets.Image(decode=False), "label": datasets.Value("int64")})
    cells = pyarrow.array(files, pyarrow.struct({"bytes": pyarrow.binary(), "path": pyarrow.string()}))
    table = pyarrow.table({"picture": cells, "label": pyarrow.array([0] * len(files))})
    datasets.Dataset(table, info=datasets.DatasetInfo(features=features)).save_to_disk(folder)
    return open_dataset(DataConfig(str(folder))).files_crc32


def test_by_name(make_folder, tmp_path: Path, monkeypatch) -> None:
    """`load_dataset` opens a local image folder by the same call as a data set of the hub."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    folder = make_folder({"train/a": 2, "train/b": 1})
    dataset = open_dataset(DataConfig(f"hf:{folder}"))
    assert dataset.class_names == ["a", "b"]
    np.testing.assert_array_equal(dataset.pixels([0, 1, 2])[:, 0, 0, 0], [0, 1, 2])
    with pytest.raises(InputError, match=r"(?s)cannot open 'hf:.*tset"):
        open_dataset(DataConfig(f"hf:{folder}", split="tset"))


def test_loading_scripts_are_not_run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Older versions of `datasets` ask on the terminal, and this says yes: so they are not allowed."""
    monkeypatch.setattr("builtins.input", lambda *prompt: "y")
    folder = tmp_path / "script"
    folder.mkdir()
    (folder / "script.py").write_text(f"from pathlib import Path\nPath({str(tmp_path)!r}, 'executed').touch()\n")
    with pytest.raises(InputError, match="cannot open 'hf:"):
        open_dataset(DataConfig(f"hf:{folder}"))
    assert not (tmp_path / "executed").exists()


def test_broken_rows_are_named_by_their_number(tmp_path: Path) -> None:
    rows = table([0] * 400, datasets.Value("int64")).cast_column("picture", datasets.Image(decode=False))

    def damage(row: dict, index: int) -> dict:
        data = row["picture"]["bytes"]
        broken = {7: b"no header", 20: data[: data.index(b"IDAT") + 6]}
        return {"picture": None if index == 9 else {"bytes": broken.get(index, data), "path": None}}

    rows = rows.map(damage, with_indices=True).cast_column("picture", datasets.Image())
    rows.save_to_disk(tmp_path / "saved")
    with pytest.warns(UserWarning, match=r"3 of 400 images .* row 7 .* row 9 .* row 20 ") as caught:
        dataset = open_dataset(DataConfig(str(tmp_path / "saved")))
    assert len(caught) == 1
    assert dataset.pixels(range(20))[:, 0, 0, 0].tolist() == [*range(7), 8, *range(10, 20), 21, 22]


def test_columns_are_found_or_asked_for(tmp_path: Path) -> None:
    rows = table([0, 1], datasets.ClassLabel(names=["a", "b"]))
    rows = rows.add_column("coarse", [0, 0]).cast_column("coarse", datasets.ClassLabel(names=["all"]))
    rows.save_to_disk(tmp_path / "two")
    with pytest.raises(InputError, match=r"several label columns \(label, coarse\).*data\.label_column"):
        open_dataset(DataConfig(str(tmp_path / "two")))
    assert open_dataset(DataConfig(str(tmp_path / "two"), label_column="coarse")).class_names == ["all"]
    with pytest.raises(InputError, match=r"data\.label_column 'corse'.*did you mean 'coarse'"):
        open_dataset(DataConfig(str(tmp_path / "two"), label_column="corse"))
    rows.remove_columns("picture").save_to_disk(tmp_path / "none")
    with pytest.raises(InputError, match="no image column"):
        open_dataset(DataConfig(str(tmp_path / "none"), label_column="label"))


def test_missing_labels_are_counted(tmp_path: Path) -> None:
    table([0, -1], datasets.ClassLabel(names=["a"])).save_to_disk(tmp_path / "saved")
    with pytest.raises(InputError, match="1 of 2 images"):
        open_dataset(DataConfig(str(tmp_path / "saved")))


def test_the_missing_extra_is_named(monkeypatch) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(InputError, match=r"flowgression\[datasets\]"):
        open_dataset(DataConfig("hf:anything"))
