"""Values checked against the types that a dataclass or a function declares. A leaf: of this package it knows errors."""

import math
from collections.abc import Callable, Mapping
from dataclasses import fields
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from flowgression.errors import InputError, did_you_mean

_WORDS = {int: "a whole number", float: "a finite number", str: "text", bool: "true or false", NoneType: "null"}


def check_fields(config: Any, prefix: str = "") -> None:
    """Raise InputError for the first field of a dataclass whose value is not of its type, named `prefix` + its name."""
    hints = get_type_hints(type(config))
    for entry in fields(config):
        _check(f"{prefix}{entry.name}", getattr(config, entry.name), hints[entry.name])


def check_arguments(function: Callable[..., Any], values: Mapping[str, Any], where: str = "") -> None:
    """Raise InputError for the first of `values` that is not of the type that `function` declares for it."""
    check_types(get_type_hints(function), values, where)


def check_types(hints: Mapping[str, Any], values: Mapping[str, Any], where: str = "") -> None:
    """Raise InputError for the first of `values` that is not of the type that `hints` has for its name."""
    for name, value in values.items():
        if name in hints:
            _check(f"{where}{name}", value, hints[name])


def _check(name: str, value: Any, hint: Any) -> None:
    if not _fits(value, hint):
        if get_origin(hint) is Literal:
            raise InputError(f"{name}={value!r} is unknown; {did_you_mean(value, get_args(hint))}")
        shown = repr(value) if len(repr(value)) <= 80 else f"{repr(value)[:77]}..."
        raise InputError(f"{name}={shown} must be {_words(hint)}{_yaml_hint(value, hint)}")


def _fits(value: Any, hint: Any) -> bool:
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return any(_fits(value, one) for one in inside)
    if kind is Literal:
        return value in inside
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool) and -(2**63) <= value < 2**63
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
    if kind in (list, tuple):  # YAML and JSON know lists only
        if not isinstance(value, list | tuple):
            return False
        each = inside if kind is tuple and inside[1:] != (...,) else (*inside, Any)[:1] * len(value)
        return len(each) == len(value) and all(map(_fits, value, each))
    if kind is dict:
        keys, values = inside or (Any, Any)
        return isinstance(value, dict) and all(_fits(k, keys) and _fits(v, values) for k, v in value.items())
    return kind is Any or not isinstance(kind, type) or isinstance(value, kind)


def _words(hint: Any) -> str:
    kind, inside = get_origin(hint) or hint, get_args(hint)
    if kind in (Union, UnionType):
        return " or ".join(dict.fromkeys(_words(one) for one in inside))
    if kind in (list, tuple):
        return f"a list of {' and '.join(dict.fromkeys(_words(one) for one in inside if one is not ...)) or 'values'}"
    if kind is dict:
        return f"keys with {_words(inside[1])}" if inside and inside[1] is not Any else "keys and values"
    return _WORDS.get(kind, getattr(kind, "__name__", str(kind)))


def _yaml_hint(value: Any, hint: Any) -> str:
    if not isinstance(value, str) or float not in (hint, *get_args(hint)):
        return ""
    try:
        return f" (YAML takes it for text: write {float(value):.1e})"
    except ValueError:
        return ""
