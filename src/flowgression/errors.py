"""Errors that speak to the person who typed the input. A leaf: it imports nothing of this package."""

import difflib
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

LFS = b"version https://git-lfs.github.com/spec/"


class InputError(ValueError):
    """The caller handed in something that cannot work.

    The message names the value, what was expected and how to fix it. The command line prints it as one line
    without a traceback; every other exception is a defect of this library and keeps its traceback.
    """


@contextmanager
def reading(what: object, fix: str) -> Iterator[None]:
    """Around code that takes in what others have written: whatever goes wrong inside is a fault of the content, but
    for a file that is not there.

    Readers of foreign formats raise errors of many types for damaged files (zipfile, zlib, json, struct, safetensors
    and torch have their own), and values of a wrong type raise any other; all of them become one InputError.

    Args:
        what: the file, as the message names it.
        fix: what to do, such as "copy it again".
    """
    try:
        yield
    except InputError:
        raise
    except FileNotFoundError as error:
        name = str(error.filename or error)
        missing = what if name in str(what) else f"{what}: {name}"
        raise InputError(f"{missing} does not exist; {fix}") from error
    except Exception as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise InputError(f"{what} is damaged or holds something else ({reason[:300]}); {fix}") from error


def refuse_pointer(path: Path) -> None:
    """InputError for a file that Git LFS left in the place of the one it stands for."""
    with path.open("rb") as file:
        is_pointer = file.read(len(LFS)) == LFS
    if is_pointer:
        raise InputError(
            f"{path} is a Git LFS pointer, {path.stat().st_size} bytes in the place of the weights: fetch them with "
            "`git lfs pull`"
        )


def did_you_mean(name: object, options: Iterable[str]) -> str:
    """A closing phrase for an error about an unknown `name`: the nearest option if there is one, then the first 20."""
    known = [str(option) for option in options]
    near = difflib.get_close_matches(str(name), known, n=1, cutoff=0.5)
    hint = f"did you mean {near[0]!r}? " if near else ""
    more = f", ... ({len(known)} in all)" if len(known) > 20 else ""
    return f"{hint}Known: {', '.join(known[:20]) or 'none'}{more}."
