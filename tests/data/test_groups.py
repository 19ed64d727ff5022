"""Groups: what the images of a sequence share while each has a label of its own."""

import warnings
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from flowgression import InputError
from flowgression.data import DataConfig, SequenceBatchSampler, make_loader, make_sampler, open_dataset
from flowgression.data.dataset import DecodedImages, MemoryImages

LABELS, GROUPS = np.tile(np.arange(6), 8), np.repeat(np.arange(8), 6)  # 8 groups with an image of each of 6 classes


def grouped() -> MemoryImages:
    """Images whose pixel says which one it is."""
    images = np.arange(48, dtype=np.uint8)[:, None, None, None] * np.ones((1, 1, 4, 4), dtype=np.uint8)
    names = [f"writer {index}" for index in range(8)]
    return MemoryImages(images, LABELS, list("abcdef"), 1).with_groups(GROUPS, names)


def batches(count: int, **options: Any) -> list[dict[str, torch.Tensor]]:
    dataset = grouped()
    settings: dict[str, Any] = {"batch_size": 4, "sequence_length": 3, "seed": 0, "contents": "group"} | options
    return list(islice(make_loader(dataset, make_sampler(dataset, **settings), 0), count))


def test_a_sequence_is_of_one_group_and_each_image_has_its_label() -> None:
    seen = []
    for batch in batches(4):  # one epoch: 8 groups of 6 images are 16 sequences of 3
        numbers = ((batch["images"][:, :, 0, 0, 0] + 1) * 127.5).round().long()
        assert (GROUPS[numbers] == GROUPS[numbers][:, :1]).all()
        np.testing.assert_array_equal(batch["class_labels"], LABELS[numbers])
        seen += numbers.ravel().tolist()
    assert sorted(seen) == list(range(48))


def test_lengths_change_from_batch_to_batch_and_not_the_images() -> None:
    whole, cut = batches(12), batches(12, shortest=1)
    lengths = [batch["images"].shape[1] for batch in cut]
    assert set(lengths) == {1, 2, 3}
    for long, short, length in zip(whole, cut, lengths, strict=True):
        assert torch.equal(long["images"][:, :length], short["images"])
        assert torch.equal(long["class_labels"][:, :length], short["class_labels"])


def test_resuming_and_sharing_give_the_same_batches() -> None:
    whole = batches(10, shortest=2)
    resumed = batches(4, shortest=2, start_batch=6)
    halves = [batches(10, shortest=2, batch_size=2, num_processes=2, process_index=index) for index in (0, 1)]
    for batch, later in zip(whole[6:], resumed, strict=True):
        assert torch.equal(batch["images"], later["images"])
    for batch, *parts in zip(whole, *halves, strict=True):
        assert torch.equal(batch["images"], torch.cat([part["images"] for part in parts]))


def test_groups_that_are_missing_or_too_few_are_named() -> None:
    with pytest.raises(InputError, match=r"data\.group_by"):
        SequenceBatchSampler(LABELS, 1, 2, contents="group")
    with pytest.raises(InputError, match="one for each image"):
        SequenceBatchSampler(LABELS, 1, 2, contents="group", groups=GROUPS[:-1])
    with pytest.raises(InputError, match="shortest is 4"):
        SequenceBatchSampler(LABELS, 1, 3, contents="group", groups=GROUPS, shortest=4)
    with pytest.warns(UserWarning, match="8 groups have fewer .*: writer 0, "):
        batches(1, sequence_length=7)


@pytest.mark.parametrize(("layout", "outer"), [("group/class", "writers"), ("class/group", "classes")])
@pytest.mark.parametrize("limit", [512, 0])
def test_folders_of_folders(make_folder: Any, layout: str, outer: str, limit: int) -> None:
    names = {"writers": ["w1/a", "w1/b", "w2/a", "w2/b"], "classes": ["a/w1", "a/w2", "b/w1", "b/w2"]}[outer]
    folder = make_folder(dict.fromkeys(names, 2))
    dataset = open_dataset(DataConfig(str(folder), group_by=layout, cache_limit_mb=limit))
    assert (dataset.class_names, dataset.group_names) == (["a", "b"], ["w1", "w2"])
    assert dataset.groups is not None
    expected = [(name, writer) for name in "ab" for writer in ("w1", "w2") for _ in range(2)]
    found = [
        (dataset.class_names[i], dataset.group_names[g]) for i, g in zip(dataset.labels, dataset.groups, strict=True)
    ]
    assert sorted(found) == sorted(expected)
    level = {name: 2 * index for index, name in enumerate(names)}  # of the first image in each folder
    for index, (name, writer) in enumerate(found):
        place = f"{writer}/{name}" if outer == "writers" else f"{name}/{writer}"
        assert int(dataset.pixels([index])[0, 0, 0, 0]) // 2 * 2 == level[place]


def test_layouts_that_do_not_fit_are_refused(make_folder: Any) -> None:
    folder = make_folder({"a": 1, "b": 1})
    with pytest.raises(InputError, match="in no folder below"):
        open_dataset(DataConfig(str(folder), group_by="class/group"))
    with pytest.raises(InputError, match="expected class/group or group/class"):
        open_dataset(DataConfig(str(folder), group_by="writer"))
    with pytest.raises(InputError, match="group_by is for folders"):
        open_dataset(DataConfig("mnist", group_by="writer"))


def write_metadata(folder: Path, lines: list[str]) -> None:
    (folder / "metadata.csv").write_text("\n".join(lines) + "\n")


def test_metadata(make_folder: Any) -> None:
    folder = make_folder({"any": 4})
    rows = ["any/0003.png,cat,anna", "any/0000.png,eel,ben", 'any/0001.png,"dog, small",anna']
    write_metadata(folder, ["file_name,label,group", *rows])
    dataset = open_dataset(DataConfig(str(folder)))
    assert dataset.class_names == ["cat", "dog, small", "eel"]
    assert dataset.labels.tolist() == [0, 2, 1]
    assert dataset.pixels([0, 1, 2])[:, 0, 0, 0].tolist() == [3, 0, 1]
    assert dataset.groups is not None
    assert dataset.group_names is not None
    assert [dataset.group_names[index] for index in dataset.groups] == ["anna", "ben", "anna"]
    write_metadata(folder, ["file_name,kind,who", "any/0003.png,cat,anna"])
    dataset = open_dataset(DataConfig(str(folder), label_column="kind", group_by="who"))
    assert (dataset.class_names, dataset.group_names) == (["cat"], ["anna"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["file_name,lable", "any/0000.png,cat"], "no column 'label'"),
        (["file_name,label", "any/0000.png,"], "line 2: label is empty"),
        (["file_name,label", "../other.png,cat"], "outside of the folder"),
    ],
)
def test_metadata_that_cannot_work_is_refused(make_folder: Any, lines: list[str], message: str) -> None:
    folder = make_folder({"any": 1})
    write_metadata(folder, lines)
    with pytest.raises(InputError, match=message):
        open_dataset(DataConfig(str(folder)))


def test_a_broken_image_is_replaced_within_its_group(make_folder: Any, truncate: Any) -> None:
    folder = make_folder(dict.fromkeys([f"w{index:02}/a" for index in range(60)], 2))
    truncate(folder / "w30" / "a" / "0001.png")
    dataset = open_dataset(DataConfig(str(folder), group_by="group/class", cache_limit_mb=0))
    assert isinstance(dataset, DecodedImages)
    with warnings.catch_warnings(record=True):
        warnings.simplefilter("always")
        assert int(dataset.pixels([61])[0, 0, 0, 0]) == 60


def test_a_column_of_a_hugging_face_data_set(tmp_path: Path) -> None:
    datasets = pytest.importorskip("datasets")
    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(names=["a", "b"]), "who": datasets.Value("int64")}
    )
    columns = {"image": [Image.new("L", (8, 8), i) for i in range(3)], "label": [1, 0, 1], "who": [7, 7, 5]}
    datasets.Dataset.from_dict(columns, features=features).save_to_disk(tmp_path / "saved")
    dataset = open_dataset(DataConfig(str(tmp_path / "saved"), group_by="who"))
    assert dataset.groups is not None
    assert (dataset.groups.tolist(), dataset.group_names) == ([1, 1, 0], ["5", "7"])
    assert open_dataset(DataConfig(str(tmp_path / "saved"))).groups is None
    with pytest.raises(InputError, match=r"group_by 'whom'.*did you mean 'who'"):
        open_dataset(DataConfig(str(tmp_path / "saved"), group_by="whom"))


def test_a_latent_cache_keeps_groups(make_folder: Any, tmp_path: Path) -> None:
    from flowgression.cli.cache_latents import run

    folder = make_folder({"w1/a": 2, "w1/b": 1, "w2/a": 1, "w2/b": 2}, sizes=((8, 8),))
    arguments = ["--data", str(folder), "--autoencoder", "identity", "--group-by", "group/class", "--shard-size", "4"]
    assert run([*arguments, "--out", str(tmp_path / "cache")]) == 0
    cache = open_dataset(DataConfig(str(tmp_path / "cache")))
    plain = open_dataset(DataConfig(str(folder), group_by="group/class"))
    assert cache.group_names == plain.group_names == ["w1", "w2"]
    assert cache.groups is not None
    assert plain.groups is not None

    def facts(dataset: Any) -> list[tuple[int, int, int]]:
        levels = dataset.pixels(range(len(dataset)))[:, 0, 0, 0].tolist()
        return sorted(zip(levels, dataset.labels.tolist(), dataset.groups.tolist(), strict=True))

    assert facts(cache) == facts(plain)
