"""Looking up a published size by name."""

from collections.abc import Mapping
from typing import Any

from flowgression.errors import InputError, did_you_mean


def look_up(family: str, presets: Mapping[str, Mapping[str, Any]], name: str, overrides: dict[str, Any]) -> dict:
    """The keywords of preset `name`, with `overrides` on top. Raises InputError for an unknown name."""
    if name not in presets:
        raise InputError(f"{family} has no preset {name!r}: {did_you_mean(name, presets)}")
    return {**presets[name], **overrides}
