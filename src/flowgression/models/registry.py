"""The model families by name."""

import inspect
from importlib import import_module
from typing import Any

from flowgression.errors import InputError, did_you_mean

FAMILIES = {
    "arflow": "flowgression.models.arflow.model:ARFlow",
    "sit": "flowgression.models.sit.model:SiT",
    "flowar": "flowgression.models.flowar.model:FlowAR",
}


def model_class(family: str) -> type:
    """The class of a family. Raises InputError for an unknown name."""
    if family not in FAMILIES:
        raise InputError(f"model family {family!r} is unknown: {did_you_mean(family, FAMILIES)}")
    module, name = FAMILIES[family].split(":")
    return getattr(import_module(module), name)


def build_model(family: str, preset: str | None = None, **args: Any) -> Any:
    """A new model with random weights: a published size with `args` on top, or `args` alone.

    Raises:
        InputError: an unknown family, preset or argument, or values that do not fit each other.
    """
    cls: Any = model_class(family)
    options = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in args:
        if name not in options:
            raise InputError(f"{family} has no argument {name!r}: {did_you_mean(name, options)}")
    return cls.from_preset(preset, **args) if preset is not None else cls(**args)
