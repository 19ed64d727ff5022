"""Seeded mutations: of bytes, of nested values as YAML and JSON hold them, of arrays, of command lines."""

import copy
import random
from collections.abc import Sequence
from typing import Any

import numpy as np

WORDS = (
    "",
    " ",
    "a",
    "none",
    "null",
    "nan",
    "ü",
    "0",
    "-1",
    "1e400",
    "../..",
    "/dev/null",
    "x" * 300,
    "[1",
    "a: b",
    "%s",
)
NUMBERS = (0, 1, -1, 2, 3, 7, 16, 255, 2**31, 2**63, -(2**63), 10**30, 0.0, 0.5, -0.5, 1e-320, 1e300)
SMALL_NUMBERS = tuple(number for number in NUMBERS if abs(number) < 256)  # where a large one is long work, no mistake
ODD = (float("nan"), float("inf"), None, True, False, [], {}, [0], [None], {"a": 1}, {"": []}, [[1, 2], [3]])


def odd_value(random: random.Random, numbers: Sequence[float] = NUMBERS) -> Any:
    """A value that is seldom meant."""
    return copy.deepcopy(random.choice(random.choice((WORDS, numbers, ODD))))


def places(tree: Any, path: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The paths of all values in nested dictionaries and lists, but for the whole."""
    items = tree.items() if isinstance(tree, dict) else enumerate(tree) if isinstance(tree, list) else ()
    return [below for key, value in items for below in [(*path, key), *places(value, (*path, key))]]


def mutate_tree(random: random.Random, tree: Any, numbers: Sequence[float] = NUMBERS) -> Any:
    """A copy of nested values with one to three of them changed, dropped, renamed, or moved."""
    tree = copy.deepcopy(tree)
    if random.random() < 0.02:
        return odd_value(random, numbers)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        found = places(tree)
        if not found:
            break
        *above, key = random.choice(found)
        parent = tree
        for step in above:
            parent = parent[step]
        match random.randrange(6):
            case 0 | 1 | 2:
                parent[key] = odd_value(random, numbers)
            case 3:
                del parent[key]
            case 4:
                value = copy.deepcopy(parent[key])
                parent[key] = random.choice(([value], {"value": value}, str(value), [value, value]))
            case _ if isinstance(parent, dict):
                parent[random.choice((f"{key}s", str(key)[:-1], str(key).upper(), 3))] = parent.pop(key)
            case _:
                parent.append(copy.deepcopy(parent[key]))
    return tree


def mutate_bytes(random: random.Random, content: bytes) -> bytes:
    """The content of a file with bits flipped, parts dropped, repeated or overwritten, cut short, or with more at its
    end; most changes fall near the start, where headers are.
    """
    data = bytearray(content)
    for _ in range(random.choice((1, 1, 2, 4))):
        if not data:
            break
        place = int(len(data) * random.random() ** random.choice((1, 4)))
        length = min(len(data) - place, random.choice((1, 2, 8, 64, 1000)))
        match random.randrange(8):
            case 0:
                del data[place:]
            case 1 | 2:
                data[place : place + 1] = bytes([data[place] ^ 1 << random.randrange(8)]) if place < len(data) else b""
            case 3:
                data[place : place + length] = random.randbytes(length)
            case 4:
                data[place : place + length] = bytes([random.choice((0, 255))]) * length
            case 5:
                del data[place : place + length]
            case 6:
                data[place:place] = data[place : place + length]
            case _:
                data += random.randbytes(random.choice((1, 100)))
    return bytes(data)


def odd_array(random: random.Random, like: np.ndarray) -> np.ndarray:
    """An array in place of `like`: of another shape or type, or with values that do not belong there."""
    match random.randrange(9):
        case 0:
            return like[:-1] if like.ndim and len(like) else like[None]
        case 1:
            return like[None]
        case 2:
            return like.reshape(-1)[: random.choice((0, 1, 2))]
        case 3:
            if like.dtype.kind not in "biufc":
                return np.array(0)
            return like.astype(random.choice((np.float64, np.float16, np.int64, np.int8, np.complex64, np.bool_, "S3")))
        case 4:
            return np.asfortranarray(like)
        case 5:
            return np.zeros(like.shape[::-1], like.dtype)
        case 6:
            return np.full(like.shape, random.choice((np.nan, np.inf, -1.0, 1e300)))
        case 7:
            return np.array([{"a": 1}, None], dtype=object)
        case _:
            changed = like.copy().reshape(-1)
            if changed.size and changed.dtype.kind in "iu":
                changed[random.randrange(changed.size)] = random.choice((0, 1, np.iinfo(changed.dtype).max))
            return changed.reshape(like.shape)


def mutate_line(
    random: random.Random, line: Sequence[str], flags: Sequence[str], long_work: Sequence[str]
) -> list[str]:
    """A command line with tokens dropped, doubled, swapped, misspelt or replaced, and flags put in.

    Args:
        flags: the command's own, with their dashes.
        long_work: those of `flags` whose large values are long work.
    """
    tokens = list(line)
    for _ in range(random.choice((1, 1, 2, 3))):
        if not tokens:
            break
        place = random.randrange(len(tokens))
        numbers = SMALL_NUMBERS if place and tokens[place - 1] in long_work else NUMBERS
        match random.randrange(8):
            case 0:
                del tokens[place]
            case 1:
                other = random.randrange(len(tokens))
                if not {tokens[place], tokens[other]} & set(long_work):
                    tokens[place], tokens[other] = tokens[other], tokens[place]
            case 2:
                tokens[place] = tokens[place][:-1] if random.random() < 0.5 else tokens[place].upper()
            case 3:
                flag = random.choice(flags)
                tokens += [
                    flag,
                    *([word(random, SMALL_NUMBERS if flag in long_work else NUMBERS)] * random.randrange(3)),
                ]
            case 4:
                tokens.insert(place, random.choice(("--", "-", "--unknown", "-x", "--=1", "extra")))
            case _:
                if not tokens[place].startswith("--"):
                    tokens[place] = word(random, numbers)
    return tokens


def word(random: random.Random, numbers: Sequence[float] = NUMBERS) -> str:
    """A value for a flag."""
    return random.choice((*WORDS, *(str(number) for number in numbers), "nan", "-inf", "True"))
