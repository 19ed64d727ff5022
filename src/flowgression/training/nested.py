"""Configurations as nested dictionaries of plain values, as YAML holds them."""

from collections.abc import Mapping
from dataclasses import asdict, fields, is_dataclass
from typing import Any, TypeVar, get_type_hints

from flowgression.errors import InputError, did_you_mean

Config = TypeVar("Config")


def config_to_dict(config: Any) -> dict[str, Any]:
    """The configuration as nested dictionaries of plain values, as YAML holds them."""
    return asdict(config)


def config_from_dict(kind: type[Config], values: Mapping[str, Any]) -> Config:
    """Build the dataclass `kind` from nested dictionaries; missing fields keep their defaults.

    Raises:
        InputError: an unknown key (with the nearest known one), or a value that the dataclass refuses.
    """
    check_keys(kind, values)
    hints = get_type_hints(kind)
    given = {
        name: config_from_dict(hints[name], value) if is_dataclass(hints[name]) else value  # type: ignore[arg-type]
        for name, value in values.items()
    }
    return kind(**given)


def check_keys(kind: type, values: Mapping[str, Any], prefix: str = "") -> None:
    """Raise InputError for the first key of nested dictionaries that no field of the dataclass `kind` has."""
    hints = get_type_hints(kind)
    known = [entry.name for entry in fields(kind)]
    for name, value in values.items():
        if name not in known:
            raise InputError(f"unknown key {prefix}{name}; {did_you_mean(name, known)}")
        if is_dataclass(hints[name]):
            if not isinstance(value, Mapping):
                raise InputError(f"{prefix}{name}={value!r} must be a section with keys of its own")
            check_keys(hints[name], value, f"{prefix}{name}.")  # type: ignore[arg-type]


def flat_config(config: Any) -> dict[str, Any]:
    """The configuration as one level of dotted names, dictionaries included, as `--optimizer.lr` spells them."""
    return _flatten(config_to_dict(config))


def _flatten(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    flat: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, Mapping) and value:
            flat |= _flatten(value, f"{prefix}{name}.")
        else:
            flat[prefix + name] = list(value) if isinstance(value, tuple) else value
    return flat


def merged(base: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    """Nested dictionaries `base` with those of `changes` on top."""
    result = dict(base)
    for name, value in changes.items():
        below = result.get(name)
        result[name] = merged(below, value) if isinstance(value, Mapping) and isinstance(below, Mapping) else value
    return result
