"""Hugging Face data sets, by name or from a folder written by `save_to_disk`. Needs the extra [datasets]."""

from io import BytesIO
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from flowgression.classes import Classes, in_natural_order
from flowgression.data.config import DataConfig
from flowgression.data.source import ImageSource, attempt, ends_crc32, file_crc32, joined_crc32
from flowgression.documents import check_regular
from flowgression.errors import InputError, did_you_mean

CHUNK = 1000  # rows read at a time
LABEL_NAMES = ("label", "labels", "class", "class_label", "category", "target")


class HubSource(ImageSource):
    """Rows `numbers` [N] of a `datasets.Dataset` whose column `image_column` holds encoded images."""

    def __init__(
        self,
        title: str,
        rows: Any,
        numbers: NDArray[np.int64],
        image_column: str,
        labels: NDArray[np.int64],
        classes: Classes,
    ) -> None:
        super().__init__(title, labels, classes)
        self._rows = rows
        self._numbers = numbers
        self._column = image_column

    def files_crc32(self) -> int:
        """As in `ImageSource`, read from the table without a copy of it."""
        rows = self._rows.with_format("arrow")
        cells = (cell for start in range(0, len(rows), CHUNK) for cell in rows[start : start + CHUNK][self._column])
        found = [attempt(_crc32, cell) for cell in cells]
        return joined_crc32([found[number] for number in self._numbers])

    def name(self, index: int) -> str:
        path = (self._encoded(index) or {}).get("path")
        return f"row {self._numbers[index]}" + (f" ({path})" if path else "")

    def open(self, index: int) -> Image.Image:
        encoded = self._encoded(index)
        if encoded is None:
            raise ValueError("the row holds no image")
        return Image.open(check_regular(encoded["path"]) if encoded["bytes"] is None else BytesIO(encoded["bytes"]))

    def select(self, kept: NDArray[np.int64]) -> Self:
        return type(self)(self.title, self._rows, self._numbers[kept], self._column, self.labels[kept], self.classes)

    def _encoded(self, index: int) -> dict[str, Any] | None:
        return self._rows[int(self._numbers[index])][self._column]


def _crc32(cell: Any) -> int:
    """The checksum of an image in a table: a pyarrow.StructScalar of its bytes and its path."""
    if cell["bytes"].is_valid:
        return ends_crc32(memoryview(cell["bytes"].as_buffer()))
    return file_crc32(Path(cell["path"].as_py()))


def is_saved_dataset(path: Path) -> bool:
    """Whether `path` is a folder that `datasets` wrote with `save_to_disk`."""
    return (path / "dataset_dict.json").is_file() or (path / "state.json").is_file()


def open_hub(config: DataConfig) -> HubSource:
    """Open `hf:NAME` or a saved data set and find its image and label columns by their types.

    Raises:
        InputError: `datasets` is not installed, the data set or split does not exist, a column is missing or
            ambiguous, or a label is missing.
    """
    try:
        import datasets
    except ImportError as error:
        raise InputError(
            f"data.path {config.path!r} needs the package datasets: pip install 'flowgression[datasets]'"
        ) from error
    rows = _load_rows(config)
    features = rows.features
    pictures = [name for name, feature in features.items() if isinstance(feature, datasets.Image)]
    image = _column("image", config.image_column, pictures, features)
    named = [name for name, feature in features.items() if isinstance(feature, datasets.ClassLabel)]
    label = _column("label", config.label_column, named or [n for n in LABEL_NAMES if n in features], features)
    labels, classes = _labels(config, rows.select_columns([label])[:][label], features[label])
    encoded = rows.select_columns([image]).cast_column(image, datasets.Image(decode=False))
    source = HubSource(config.path, encoded, np.arange(len(encoded)), image, labels, classes)
    return source.group_by(_groups(config, rows))


def _load_rows(config: DataConfig) -> Any:
    import datasets

    if not config.path.startswith("hf:"):
        saved = datasets.load_from_disk(str(Path(config.path).expanduser()))
        splits = list(saved) if isinstance(saved, datasets.DatasetDict) else [str(saved.split or "train")]
        if config.split not in splits:
            raise InputError(f"{config.path} has no split {config.split!r}; {did_you_mean(config.split, splits)}")
        return saved[config.split] if isinstance(saved, datasets.DatasetDict) else saved
    try:
        return datasets.load_dataset(config.path.removeprefix("hf:"), config.subset, split=config.split)
    except (ValueError, OSError, RuntimeError) as error:  # RuntimeError: a loading script, which is never run
        raise InputError(f"cannot open {config.path!r}, split {config.split!r}: {error}") from error


def _column(kind: str, wanted: str | None, candidates: list[str], features: Any) -> str:
    if wanted is not None:
        if wanted not in features:
            field = "group_by" if kind == "group" else f"{kind}_column"
            raise InputError(f"data.{field} {wanted!r} is no column; {did_you_mean(wanted, features)}")
        return wanted
    if len(candidates) != 1:
        found = f"several {kind} columns ({', '.join(candidates)})" if candidates else f"no {kind} column"
        columns = ", ".join(f"{name} ({type(feature).__name__})" for name, feature in features.items())
        raise InputError(f"the data set has {found}; set data.{kind}_column to one of: {columns}")
    return candidates[0]


def _groups(config: DataConfig, rows: Any) -> list[str] | None:
    """What `config.group_by` says that images share, one value for each; None if there is no such column."""
    name = config.group_by or ("group" if "group" in rows.features else None)
    if name is None:
        return None
    values = rows.select_columns([_column("group", name, [], rows.features)])[:][name]
    if missing := sum(value is None for value in values):
        raise InputError(f"{config.path}: {missing} of {len(values)} images of {config.split!r} have no {name}")
    return [str(value) for value in values]


def _labels(config: DataConfig, values: list[Any], feature: Any) -> tuple[NDArray[np.int64], Classes]:
    """Labels int64 [N] from 0 and the classes; values without names are their own, numbered in sorted order."""
    missing = sum(value is None or value == -1 for value in values)
    if missing:
        raise InputError(f"{config.path}: {missing} of {len(values)} images of {config.split!r} have no label")
    names = getattr(feature, "names", None)
    if names is not None:
        return np.array(values, dtype=np.int64), Classes(names)
    texts = [str(value) for value in values]
    distinct = in_natural_order(set(texts))
    number = {name: label for label, name in enumerate(distinct)}
    return np.array([number[text] for text in texts], dtype=np.int64), Classes.named(distinct)
