"""Files that several processes make together: whoever makes one holds its lock, which ends with the process.

The lock of `cells/a.json` is `cells/a.json.lock`. Processes on several machines need a file system that shares locks.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout


@contextmanager
def claim(path: Path) -> Iterator[None]:
    """Within it this process alone makes `path`; waits for the process that does."""
    with _lock(path):
        yield


@contextmanager
def claim_if_free(path: Path) -> Iterator[bool]:
    """Likewise without waiting: False where another process makes `path`."""
    lock = _lock(path)
    try:
        lock.acquire(timeout=0)
    except Timeout:
        yield False
        return
    try:
        yield True
    finally:
        lock.release()


def _lock(path: Path) -> FileLock:
    path.parent.mkdir(parents=True, exist_ok=True)
    return FileLock(f"{path}.lock")
