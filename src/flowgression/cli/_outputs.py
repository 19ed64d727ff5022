"""Where a command writes: checks that are cheaper before the work than after it."""

from pathlib import Path

from flowgression.errors import InputError
from flowgression.files import try_writing


def check_folder(folder: Path) -> Path:
    """Create `folder` if need be and see that files can be written there.

    Raises:
        InputError: it cannot be created or written to.
    """
    try:
        try_writing(folder)
    except OSError as error:
        raise InputError(f"cannot write to {folder} ({error.strerror or error}); choose another place.") from error
    return folder


def readable_size(number_of_bytes: int) -> str:
    """1536 -> "1.5 KiB"."""
    size = float(number_of_bytes)
    for unit in ("bytes", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.0f} {unit}" if unit == "bytes" else f"{size:.1f} {unit}"
        size /= 1024
    return f"{size:.1f} GiB"
