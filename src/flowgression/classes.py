"""The classes of a model or of a data set: their names, their order and their ids. A leaf: it imports errors alone.

A class is known by its name. Its id is its place in one model or one data set, and says nothing about another's.

C: classes.
"""

import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any

from flowgression.errors import InputError, did_you_mean
from flowgression.text import one_line

Names = str | Sequence[str] | None
"""Of one class. A string: its name, and what stands between commas are synonyms, as in diffusers' id2label. A list:
names as they are, commas and all; the first is shown. None or "": none, the class is shown by its id."""


class Classes:
    """C classes with the ids 0 to C - 1.

    Args:
        names: what is known of each class, in the order of the ids.

    Attributes:
        titles: a name for each class to be shown, no two equal: the first one, or the id.

    Raises:
        InputError: a name that is no text.
    """

    def __init__(self, names: Iterable[Names]) -> None:
        self._given = [_checked(each, label) for label, each in enumerate(names)]
        self._whole: dict[str, list[int]] = {}
        self._synonyms: dict[str, list[int]] = {}
        first: list[str | None] = []
        for label, each in enumerate(self._given):
            whole = [each] if isinstance(each, str) else each
            parts = _split(each) if isinstance(each, str) else []
            for table, found in ((self._whole, whole), (self._synonyms, parts)):
                for name in filter(None, dict.fromkeys(found)):
                    table.setdefault(name, []).append(label)
            first.append(next(filter(None, [*parts, *whole]), None))
        shown = [str(label) if name is None else one_line(name) for label, name in enumerate(first)]
        counts = Counter(shown)
        self.titles = [f"{name} ({label})" if counts[name] > 1 else name for label, name in enumerate(shown)]

    @classmethod
    def named(cls, names: Iterable[str]) -> "Classes":
        """Classes of a data set: each has one name, exactly as it is."""
        return cls([name] for name in names)

    @classmethod
    def numbered(cls, count: int) -> "Classes":
        """Classes without names."""
        return cls([None] * count)

    @classmethod
    def from_id2label(cls, id2label: Mapping[Any, Names] | None, num_classes: int) -> "Classes":
        """The classes of a model from the `id2label` of its model_index.json, {"0": "zero", ...}.

        Raises:
            InputError: a key that is no id of the model, or a name that is no text.
        """
        names: list[Names] = [None] * num_classes
        if not isinstance(id2label or {}, Mapping):
            raise InputError(f"id2label is a {type(id2label).__name__}; expected {{0: 'name', ...}}")
        for key, value in (id2label or {}).items():
            label = int(key) if re.fullmatch(r"[+-]?[0-9]+", str(key)) else -1
            if not 0 <= label < num_classes:
                raise InputError(f"id2label names class {key}; the model has classes 0 to {num_classes - 1}")
            names[label] = value
        return cls(names)

    def to_list(self) -> list[str | list[str] | None]:
        """What `Classes(...)` makes these of, as JSON holds it."""
        return [each[0] if isinstance(each, list) and _is_plain(each) else each or None for each in self._given]

    def id2label(self) -> dict[str, str | list[str]] | None:
        """What `from_id2label` makes these of; None where no class has a name."""
        return {str(label): each for label, each in enumerate(self.to_list()) if each is not None} or None

    def __len__(self) -> int:
        return len(self._given)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Classes) and self.to_list() == other.to_list()

    __hash__ = None  # type: ignore[assignment]  # it holds dictionaries

    def __repr__(self) -> str:
        return f"Classes({self.titles!r})"

    @property
    def are_named(self) -> bool:
        """Whether any class has a name."""
        return bool(self._whole)

    @property
    def ids_by_name(self) -> dict[str, int]:
        """The id of every name that is one class's alone."""
        names = (name for each in self._given for name in (_split(each) if isinstance(each, str) else each))
        return {name: found[0] for name in names if len(found := self._found(name)) == 1}

    def id_of(self, label: Any, *, null: bool = False) -> int:
        """The id of one label: an id, or a name. A text such as "3" is a name where a class has it, else an id.

        Args:
            null: let the null label pass, C.

        Raises:
            InputError: an unknown name, a name of several classes, an id out of range, or no whole number.
        """
        if isinstance(label, str):
            if found := self._found(label):
                return self._only(label, found)
            if not re.fullmatch(r"[+-]?[0-9]+", label):
                if not self.are_named:
                    raise InputError(
                        f"class name {label!r}: this model has no class names; pass class ids, 0 to {len(self) - 1}"
                    )
                raise InputError(f"unknown class name {label!r}: {did_you_mean(label, self.ids_by_name)}")
            label = int(label)
        if isinstance(label, bool) or not isinstance(label, Real) or float(label) % 1 != 0:
            raise InputError(f"class label {label!r} is no class; expected a class id (a whole number) or a name")
        number = int(float(label)) if not isinstance(label, Integral) else int(label)
        if not 0 <= number < len(self) + null:
            raise InputError(f"class label {number} is out of range; the model has classes 0 to {len(self) - 1}")
        return number

    def ids(self, labels: Any, *, null: bool = False) -> list[int]:
        """The ids of one label or of several in a list, an array or a tensor of one dimension; see `id_of`.

        Raises:
            InputError: no label at all, an array of more dimensions, or as `id_of`.
        """
        if hasattr(labels, "ndim"):
            if labels.ndim > 1:
                raise InputError(
                    f"class labels have the shape {list(labels.shape)}; expected one class for each image, in one "
                    "dimension: of a one-hot array take argmax(-1)"
                )
            labels = labels.tolist()
        several = [labels] if isinstance(labels, str | Real) else list(labels)
        if not several:
            raise InputError("class_labels is empty; give at least one class id or name")
        return [self.id_of(label, null=null) for label in several]

    def select(self, entry: str) -> list[int]:
        """The ids that a word of a command line means: a name, an id, or a range such as 0-9.

        A range whose ends are names takes the classes whose names are numbers between them; else it counts ids.

        Raises:
            InputError: as `id_of`, or a range that runs backwards.
        """
        match = re.fullmatch(r"([0-9]+)-([0-9]+)", entry)
        if match is None or self._found(entry):
            return [self.id_of(entry)]
        ends = match[1], match[2]
        first, last = map(int, ends)
        if first > last:
            raise InputError(f"--class-labels {entry} runs backwards; write {last}-{first}.")
        named = [bool(self._found(end)) for end in ends]
        if not any(named):
            return [self.id_of(number) for number in range(first, last + 1)]
        for end, known in zip(ends, named, strict=True):
            if not known:
                raise InputError(f"--class-labels {entry}: no class is called {end!r}, so this is no range of names.")
        numbers = [name for name in self._whole if re.fullmatch(r"[0-9]+", name) and first <= int(name) <= last]
        return [self.id_of(name) for name in in_natural_order(numbers)]

    def places_in(self, other: "Classes") -> list[int | None]:
        """For each class the id of the class of the same name in `other`; None where it has none, or several.

        Classes without names are the same only where neither side names any: then by their ids.
        """
        if self == other or not (self.are_named or other.are_named):
            return [label if label < len(other) else None for label in range(len(self))]
        places = [other._same_as(each) for each in self._given]
        counts = Counter(places)
        return [None if counts[place] > 1 else place for place in places]

    def _same_as(self, names: str | list[str]) -> int | None:
        """The id of the one class that has a name of these, whole names before synonyms."""
        whole, parts = ([names], _split(names)) if isinstance(names, str) else (names, [])
        for among in (whole, parts):
            found = {label for name in among for label in self._found(name)}
            if found:
                return found.pop() if len(found) == 1 else None
        return None

    def _found(self, name: str) -> list[int]:
        return self._whole.get(name) or self._synonyms.get(name) or []

    def _only(self, name: str, found: list[int]) -> int:
        if len(found) > 1:
            ids = ", ".join(map(str, found[:5])) + (", ..." if len(found) > 5 else "")
            raise InputError(f"class name {name!r} is ambiguous: it is a name of the classes {ids}; pass an id")
        return found[0]


def in_natural_order(names: Iterable[str]) -> list[str]:
    """Names sorted as people count: 2 before 10, img2 before img10; other characters by their code points."""
    names = list(names)
    if all(re.fullmatch(r"[+-]?[0-9]+(\.[0-9]+)?", name) for name in names):
        return sorted(names, key=lambda name: (float(name), name))
    return sorted(names, key=_natural_key)


def _natural_key(name: str) -> tuple[list[Any], str]:
    parts = re.split("([0-9]+)", name)  # text and numbers take turns
    return [int(part) if index % 2 else part for index, part in enumerate(parts)], name


def _split(names: str) -> list[str]:
    return [part.strip() for part in names.split(",") if part.strip()]


def _is_plain(names: list[str]) -> bool:
    return len(names) == 1 and "," not in names[0] and names[0] == names[0].strip()


def _checked(names: Names, label: int) -> str | list[str]:
    if names is None:
        return []
    if isinstance(names, str):
        return names.strip()
    entries = list(names) if isinstance(names, Sequence) else [None]
    if not all(isinstance(name, str) for name in entries):
        raise InputError(f"the name of class {label} is {names!r}; expected a text, or a list of texts")
    return [name for name in entries if name]


def as_classes(names: Classes | Sequence[str]) -> Classes:
    """Classes as they are, or those of a data set with these names."""
    return names if isinstance(names, Classes) else Classes.named(names)
