"""Files that several processes make together: whoever makes one holds its lock, which ends with the process.

The lock of `cells/a.json` is `cells/a.json.lock`. Processes on several machines need a file system that shares locks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from flowgression.errors import InputError


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Within it this process alone makes `path`; waits for the process that does.

    Raises:
        InputError: a file system without locks.
    """
    lock = _taken(path)
    try:
        yield
    finally:
        lock.release()


@contextmanager
def claim_if_free(path: Path) -> Iterator[bool]:
    """Likewise without waiting: False where another process makes `path`."""
    try:
        lock = _taken(path, timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _taken(path: Path, timeout: float = -1) -> FileLock:
    """The lock of `path`, held; Timeout if another process holds it longer than `timeout` seconds (-1: for ever)."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lock = FileLock(f"{path}.lock")
    try:
        lock.acquire(timeout=timeout)
    except NotImplementedError as error:
        raise InputError(
            f"the file system of {path.parent} has no locks (flock), by which the processes of a study share its work; "
            "choose another --out"
        ) from error
    return lock
