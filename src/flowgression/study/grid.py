"""How a study samples its models: grids of sampling options, and their points. The options are those of sampling."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import product
from typing import Any, NamedTuple

from flowgression.errors import InputError, did_you_mean
from flowgression.sampling.options import option_types, parse_history
from flowgression.typed import check_types

TIME_GRIDS = ("uniform", "released")  # of families.flowar.schedules, which loads torch


class Varied(NamedTuple):
    """An option that a grid varies.

    default: its value where a grid does not name it; None for that of the model's family. file, words: a value in names
    of files and in reports. check: raises InputError for a value that no model takes.
    """

    default: Any
    file: str = ""
    words: str = ""
    check: Callable[[Any], Any] = lambda value: None


def _check_interval(interval: Sequence[float]) -> None:
    if not 0 <= interval[0] <= interval[1] <= 1:
        raise InputError(f"guidance_interval {list(interval)} must be two rising times in [0, 1]")


def _check_channels(channels: int) -> None:
    if channels < 1:
        raise InputError(f"guided_channels {channels} must be one or more, or null for all")


def _check_times(name: str) -> None:
    if name not in TIME_GRIDS:
        raise InputError(f"time_grid {name!r} is unknown; {did_you_mean(name, TIME_GRIDS)}")


VARIED: dict[str, Varied] = {
    "num_inference_steps": Varied(None),
    "guidance_scale": Varied(1.5),
    "solver": Varied("euler"),
    "guidance_interval": Varied(None, "from-{0[0]:g}-to-{0[1]:g}", " for t in [{0[0]:g}, {0[1]:g}]", _check_interval),
    "guided_channels": Varied(None, "channels-{}", ", {} guided channels", _check_channels),
    "time_grid": Varied(None, "{}-times", ", {} times", _check_times),
    "history": Varied(None, "history-{}", ", history {}", parse_history),
}
"""What a grid varies, fastest first; every name is an option of `sampling.options`."""


@dataclass(frozen=True)
class Point:
    """One way to sample a model.

    options: name and value of each option in VARIED, in that order; None for the default of the model's family.
    """

    options: tuple[tuple[str, Any], ...]

    @classmethod
    def of(cls, **options: Any) -> "Point":
        """The point with these options; those that are not named are None."""
        return cls(tuple((name, options.get(name)) for name in VARIED))

    def __getitem__(self, name: str) -> Any:
        return dict(self.options)[name]

    def but(self, **changes: Any) -> "Point":
        """This point with other values of some options."""
        return Point.of(**{**dict(self.options), **changes})

    def call(self) -> dict[str, Any]:
        """The keywords of a pipeline's call."""
        return {name: value for name, value in self.options if value is not None}

    @property
    def name(self) -> str:
        """As a part of file names."""
        first = f"{self['solver']}-{self['num_inference_steps']}-guidance-{self['guidance_scale']:g}"
        return "-".join([first, *(VARIED[name].file.format(value).replace(":", "-") for name, value in self._others())])

    def describe(self) -> str:
        """ "10 steps, euler, guidance 1.5"."""
        first = f"{self['num_inference_steps']} steps, {self['solver']}, guidance {self['guidance_scale']:g}"
        return first + "".join(VARIED[name].words.format(value) for name, value in self._others())

    def _others(self) -> list[tuple[str, Any]]:
        """The options that are named only where they are given."""
        return [(name, value) for name, value in self.options if VARIED[name].file and value is not None]


class Grid:
    """All combinations of some values of sampling options.

    Args:
        models: names of the models that are sampled so; empty for all.
        values: by the name of an option in VARIED, a list of values; None among them is the default of the model's
            family. num_inference_steps must be there.

    Raises:
        InputError: an option that a study does not vary, no value, or a value that no model takes.
    """

    def __init__(self, models: Sequence[str] = (), **values: Any):
        for name in values:
            if name not in VARIED:
                raise InputError(f"grids: unknown key {name}; {did_you_mean(name, [*VARIED, 'models'])}")
        check_types({**_types(), "models": list[str]}, {"models": models, **values}, "grids: ")
        self.models = list(models)
        self._values = {name: values.get(name, [entry.default]) for name, entry in VARIED.items()}
        for name, several in self._values.items():
            if not several or (name == "num_inference_steps" and None in several):
                raise InputError(f"grids: {name} must hold a value or more")
            for value in several:
                _check(name, value)

    def facts(self) -> dict[str, Any]:
        """What was given and what was not, as values for JSON."""
        return {**self._values, "models": self.models}

    def points(self) -> list[Point]:
        """The combinations, the steps innermost."""
        names = list(self._values)
        rows = product(*(self._values[name] for name in reversed(names)))
        return [Point.of(**dict(zip(names, map(_plain, reversed(row)), strict=True))) for row in rows]


def _types() -> dict[str, Any]:
    """The type of a grid's values by name."""
    return {name: list[kind | None] for name, kind in option_types().items()}  # type: ignore[valid-type]


def _check(name: str, value: Any) -> None:
    try:
        if value is not None:
            VARIED[name].check(value)
    except InputError as error:
        raise InputError(f"grids: {error}") from None


def _plain(value: Any) -> Any:
    """Values that compare and hash alike, however YAML wrote them: 1 and 1.0, lists and tuples."""
    return tuple(float(each) for each in value) if isinstance(value, list | tuple) else value
