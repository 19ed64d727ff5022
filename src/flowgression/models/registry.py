"""Models by the name of their family."""

import inspect
from typing import Any

from flowgression.errors import InputError, did_you_mean
from flowgression.families import find_family
from flowgression.typed import check_arguments


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
    check_arguments(cls.__init__, args, f"{family}: ")
    try:
        return cls.from_preset(preset, **args) if preset is not None else cls(**args)
    except InputError:
        raise
    except Exception as error:  # sizes that no check foresaw: of layers that torch refuses, or beyond the memory
        raise InputError(f"{family} cannot be built with these arguments: {' '.join(str(error).split())}") from error
