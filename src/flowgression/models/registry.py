"""Models by the name of their family."""

import inspect
from typing import Any

from flowgression.errors import InputError, did_you_mean
from flowgression.families import find_family


def build_model(family: str, preset: str | None = None, **args: Any) -> Any:
    """A new model with random weights: a published size with `args` on top, or `args` alone.

    Raises:
        InputError: an unknown family, preset or argument, or values that do not fit each other.
    """
    cls = find_family(family).model_class
    options = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in args:
        if name not in options:
            raise InputError(f"{family} has no argument {name!r}: {did_you_mean(name, options)}")
    return cls.from_preset(preset, **args) if preset is not None else cls(**args)
