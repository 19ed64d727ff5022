"""A class is its name: ids, order, ambiguity, numbers that are names, and matching by name."""

import json

import numpy as np
import pytest
import torch

from flowgression import InputError
from flowgression.classes import Classes, as_classes, in_natural_order

IMAGENET = {0: "tench, Tinca tinca", 1: "crane", 2: "missile", 3: "projectile, missile", 4: "crane"}


def refused(call: object, *arguments: object, **keywords: object) -> str:
    with pytest.raises(InputError) as error:
        call(*arguments, **keywords)  # type: ignore[operator]
    return str(error.value)


def test_exact_names_of_a_data_set() -> None:
    classes = Classes.named(["red, blue", "red", "Grün", "a-b", "3-4"])
    assert [classes.id_of(name) for name in ("red, blue", "red", "Grün", "a-b", "3-4")] == [0, 1, 2, 3, 4]
    assert "did you mean 'red, blue'" in refused(classes.id_of, "red,blue")
    assert "unknown class name 'blue'" in refused(classes.id_of, "blue")
    assert classes.titles == ["red, blue", "red", "Grün", "a-b", "3-4"]
    assert (len(classes), classes.are_named, as_classes(classes) is classes) == (5, True, True)
    assert classes.select("3-4") == [4]  # a name before a range


def test_synonyms_as_in_diffusers() -> None:
    classes = Classes.from_id2label(IMAGENET, 6)
    assert [classes.id_of(name) for name in ("tench", "Tinca tinca", "tench, Tinca tinca", "missile")] == [0, 0, 0, 2]
    assert classes.titles == ["tench", "crane (1)", "missile", "projectile", "crane (4)", "5"]
    assert "ambiguous: it is a name of the classes 1, 4" in refused(classes.id_of, "crane")
    assert classes.ids_by_name == {"tench": 0, "Tinca tinca": 0, "missile": 2, "projectile": 3}


def test_a_list_of_names_is_taken_as_it_is() -> None:
    classes = Classes.from_id2label({"1": ["red, blue", "both"]}, 2)
    assert classes.ids(["red, blue", "both", 0]) == [1, 1, 0]
    assert "unknown" in refused(classes.id_of, "red")


@pytest.mark.parametrize(
    "names",
    [["zero", "one"], ["red, blue", "red"], ["tench, Tinca tinca", ["a, b"], None, ["x", "y"]], [None, None], []],
)
def test_round_trip(names: list) -> None:
    for classes in (Classes(names), Classes.named([name for name in names if isinstance(name, str)])):
        assert Classes(json.loads(json.dumps(classes.to_list()))) == classes
        stored = json.loads(json.dumps(classes.id2label()))
        assert Classes.from_id2label(stored, len(classes)) == classes
    assert Classes.named(["a, b"]) != Classes(["a, b"])


def test_numbers_are_names_first() -> None:
    tens = Classes.named(["10", "20", "30"])
    assert [tens.id_of(label) for label in ("10", 0, "0", "30", np.int64(1))] == [0, 0, 0, 2, 1]
    assert tens.select("10-30") == [0, 1, 2]
    assert tens.select("0-2") == [0, 1, 2]
    assert "no class is called '11'" in refused(tens.select, "10-11")
    assert "out of range" in refused(tens.select, "7")
    text_order = Classes.named(["0", "1", "10", "11", "2", "3"])  # of models trained before
    assert text_order.select("1-3") == [text_order.id_of(name) for name in ("1", "2", "3")] == [1, 4, 5]
    assert Classes.named(["007", "008"]).select("007-008") == [0, 1]
    assert Classes.numbered(5).select("2-4") == [2, 3, 4]
    assert "write 2-4" in refused(Classes.numbered(5).select, "4-2")


def test_only_whole_numbers_are_ids() -> None:
    classes = Classes.numbered(10)
    assert classes.ids(torch.tensor([1, 2])) == classes.ids(np.array([1.0, 2.0])) == classes.ids([1, 2]) == [1, 2]
    assert classes.ids(torch.tensor(3)) == classes.ids(3) == [3]
    for wrong in (2.7, True, float("nan"), float("inf"), None, np.array([2.7])):
        assert "is no class" in refused(classes.ids, wrong if hasattr(wrong, "ndim") else [wrong])
    assert "take argmax(-1)" in refused(classes.ids, np.eye(10))
    assert "out of range; the model has classes 0 to 9" in refused(classes.id_of, 10)
    assert classes.id_of(10, null=True) == 10
    assert "out of range" in refused(classes.id_of, -1)
    assert "empty" in refused(classes.ids, [])
    assert "no class names; pass class ids, 0 to 9" in refused(classes.id_of, "cat")


@pytest.mark.parametrize("id2label", [{"7": "a"}, {"x": "a"}, {"-1": "a"}, {0: 3}, {0: [3]}, {0: {"a": 1}}, ["a"], "a"])
def test_damaged_id2label(id2label: object) -> None:
    assert refused(Classes.from_id2label, id2label, 3)


def test_natural_order() -> None:
    assert in_natural_order(map(str, range(11, -1, -1))) == [str(number) for number in range(12)]
    assert in_natural_order(["img10", "img2", "a", "img1b"]) == ["a", "img1b", "img2", "img10"]
    assert in_natural_order(["0.5", "0.25", "-1"]) == ["-1", "0.25", "0.5"]
    assert in_natural_order(["b", "2", "10", "a1"]) == ["2", "10", "a1", "b"]
    assert in_natural_order(["two", "one", "n02", "n01"]) == ["n01", "n02", "one", "two"]


def test_the_same_class_elsewhere() -> None:
    digits = Classes.from_id2label({"0": "zero, nought", "1": "one", "2": "two"}, 3)
    folders = Classes.named(["one", "two", "zero", "cat"])
    assert folders.places_in(digits) == [1, 2, 0, None]
    assert digits.places_in(folders) == [2, 0, 1]
    assert Classes.named(["nought", "zero"]).places_in(digits) == [None, None]  # both are one class there
    assert Classes.named(["0", "1"]).places_in(digits) == [None, None]  # numbers of one side are no names of the other
    assert Classes.numbered(4).places_in(Classes.numbered(3)) == [0, 1, 2, None]
    assert Classes.numbered(3).places_in(digits) == [None] * 3
    cranes = Classes.from_id2label(IMAGENET, 6)
    assert cranes.places_in(cranes) == list(range(6))
    assert cranes.places_in(Classes([*cranes.to_list(), "more"])) == [0, None, 2, 3, None, None]
