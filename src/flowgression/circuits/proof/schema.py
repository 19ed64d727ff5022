"""Typed fields with ranges, shared by all readers: what is not in a schema is refused.

A schema is a callable of a value and a word for its place; it gives the value back, or raises Damaged. Booleans and
floats are no integers, and unknown, missing or repeated keys are refused.
"""

import json
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

Schema = Callable[[Any, str], Any]
LONGEST_INTEGER = 1300
"""Digits of 2^4096 and a sign; more are not even read."""


class Rejected(Exception):
    """The proof does not hold; says where."""


class Damaged(Rejected):
    """A file is not of its format; says where."""


def need(holds: bool, what: str) -> None:
    """Raise Rejected unless it holds."""
    if not holds:
        raise Rejected(what)


def must(holds: bool, what: str) -> None:
    """Raise Damaged unless it holds."""
    if not holds:
        raise Damaged(what)


def _refuse(x: Any, where: str, expected: str) -> Any:
    shown = repr(x)
    raise Damaged(f"{where} is {shown if len(shown) <= 40 else shown[:40] + '...'}; expected {expected}")


@dataclass(frozen=True)
class Int:
    """An integer in lo..hi."""

    lo: int
    hi: int

    def __call__(self, x: Any, where: str) -> int:
        if type(x) is int and self.lo <= x <= self.hi:
            return x
        ends = [str(end) if abs(end) < 1 << 63 else f"about 2^{end.bit_length()}" for end in (self.lo, self.hi)]
        return int(_refuse(x, where, f"an integer from {ends[0]} to {ends[1]}"))


@dataclass(frozen=True)
class OrNull:
    """null, or what the item says."""

    item: Schema

    def __call__(self, x: Any, where: str) -> Any:
        return None if x is None else self.item(x, where)


@dataclass(frozen=True)
class Each:
    """A list of `least` to `most` items of one kind."""

    item: Schema
    least: int = 1
    most: int = 1 << 31

    def __call__(self, x: Any, where: str) -> list[Any]:
        if type(x) is not list or not self.least <= len(x) <= self.most:
            _refuse(x, where, f"a list of {self.least} or more items")
        item = self.item
        return [item(each, where) for each in x]


@dataclass(frozen=True)
class Integers:
    """A list of integers in lo..hi; fast for long ones."""

    lo: int
    hi: int
    least: int = 1
    most: int = 1 << 31

    def __call__(self, x: Any, where: str) -> list[int]:
        if type(x) is not list or not self.least <= len(x) <= self.most:
            _refuse(x, where, f"a list of {self.least} to {self.most} integers")
        if x and (set(map(type, x)) != {int} or min(x) < self.lo or max(x) > self.hi):
            Each(Int(self.lo, self.hi), 0)(x, where)
        return list(x)


class Items:
    """A list of just these items."""

    def __init__(self, *items: Schema):
        self.items = items

    def __call__(self, x: Any, where: str) -> list[Any]:
        if type(x) is not list or len(x) != len(self.items):
            _refuse(x, where, f"a list of {len(self.items)} items")
        return [item(each, where) for item, each in zip(self.items, x, strict=True)]


class Record:
    """An object of just these keys."""

    def __init__(self, **fields: Schema):
        self.fields = fields

    def __call__(self, x: Any, where: str) -> dict[str, Any]:
        if type(x) is not dict:
            _refuse(x, where, "an object")
        if x.keys() != self.fields.keys():
            _refuse(sorted(x), f"keys of {where}", f"the keys {', '.join(sorted(self.fields)) or '(none)'}")
        return {key: schema(x[key], f"{where}.{key}") for key, schema in self.fields.items()}


def boolean(x: Any, where: str) -> bool:
    return x if type(x) is bool else bool(_refuse(x, where, "true or false"))


def _matching(pattern: str, expected: str) -> Schema:
    compiled = re.compile(pattern)

    def schema(x: Any, where: str) -> str:
        return x if type(x) is str and compiled.fullmatch(x) else str(_refuse(x, where, expected))

    return schema


name = _matching(r"[A-Za-z_][A-Za-z0-9_]{0,63}", "a name of letters, digits and _")
text = _matching(
    r"(?=.{1,1000}\Z)[!-~]+(?: [!-~]+)*", "1 to 1000 printable ASCII characters, without two spaces together"
)


def anything(x: Any, where: str) -> Any:
    return x


def mapping(x: Any, where: str) -> dict[str, Any]:
    return x if type(x) is dict else dict(_refuse(x, where, "an object"))


def just(word: str) -> Schema:
    """This string alone."""
    return lambda x, where: word if type(x) is str and x == word else _refuse(x, where, repr(word))


def distinct(names: list[str], where: str) -> None:
    must(len(set(names)) == len(names), f"a name stands twice in {where}")


def read_json(data: bytes, where: str, floats: bool = False) -> Any:
    """JSON without repeated keys, without -0, and without floats unless they are allowed."""

    def integer(digits: str) -> int:
        must(digits != "-0" and len(digits) <= LONGEST_INTEGER, f"{where} holds the integer {digits[:40]}")
        return int(digits)

    def real(digits: str) -> float:
        must(floats, f"{where} holds {digits[:40]}, which is no integer")
        return float(digits)

    def unique(pairs: list[tuple[str, Any]]) -> Mapping[str, Any]:
        found = dict(pairs)
        must(len(found) == len(pairs), f"{where} has a key twice: {[key for key, _ in pairs][:8]}")
        return found

    try:
        hooks = {"parse_int": integer, "parse_float": real, "parse_constant": real, "object_pairs_hook": unique}
        return json.loads(data.decode(), **hooks)  # type: ignore[arg-type]
    except (ValueError, RecursionError) as error:
        raise Damaged(f"{where} is no JSON of the format ({error})") from None
