"""Sampling in parts: on several processes, resumed after a kill, for numbers of images that fit into no memory."""

import zlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.cli._processes import Processes
from flowgression.errors import InputError
from flowgression.text import say

if TYPE_CHECKING:
    from flowgression.sampling.parts import Parts

FAILED, WRONG_INPUT, INTERRUPTED = 1, 2, 130


class PartsError(Exception):
    """One process cannot continue; `status` is its exit status. What is finished is kept."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


def sample_in_parts(
    pipe: Any,
    labels: Sequence[int],
    call: Mapping[str, Any],
    out: Path,
    facts: Mapping[str, Any],
    names: Mapping[int, str],
    here: Processes,
) -> str | None:
    """Make the images that are not there yet, this process its share of them, and write them all to `out`.

    Args:
        out: X.npz, or a folder.
        facts: of `sampling_facts`, with seed and batch_size.
        here: this process; batches are dealt out to all of them in turn.

    Returns:
        What was written, on the main process; None on the others.

    Raises:
        InputError: `out` holds other images, or parts of them; on all processes.
        PartsError: this process alone cannot continue.
    """
    import numpy as np

    from flowgression.sampling.parts import NpzParts, PngParts, weights_checksum

    identity = {
        "num_images": len(labels),
        "labels_checksum": zlib.crc32(np.asarray(labels, dtype=np.int64).tobytes()),
        "weights_checksum": weights_checksum(pipe.transformer),
    }
    batch_size, facts = facts["batch_size"], {**facts, **identity}
    parts: Parts
    if out.suffix.lower() == ".npz" and not out.is_dir():
        parts = NpzParts(out, labels, batch_size, facts)
    else:
        parts = PngParts(out, labels, batch_size, facts, names)
    with here.connected():
        missing = missing_batches(parts, here, len(labels), batch_size)
        make_parts(pipe, labels, call, parts, missing[here.index :: here.count], facts, here)
        wait_for_all(parts, here)
    return guarded(parts, parts.finish) if here.is_main else None


def missing_batches(parts: "Parts", here: Processes, num_images: int, batch_size: int) -> list[int]:
    """The batches to make, the same on all processes."""
    missing, problem = [], None
    if here.is_main:
        try:
            missing = parts.missing()
        except InputError as error:
            problem = str(error)
    missing, problem = here.from_main((missing, problem))
    if problem:
        raise InputError(problem)
    there = -(-num_images // batch_size) - len(missing)
    if there and here.is_main:
        say(f"{min(there * batch_size, num_images)} of {num_images} images are there already, in {parts.kept_in}")
    return missing


def make_parts(
    pipe: Any,
    labels: Sequence[int],
    call: Mapping[str, Any],
    parts: "Parts",
    numbers: Sequence[int],
    facts: Mapping[str, Any],
    here: Processes,
) -> None:
    """Make and keep the batches `numbers`."""
    from flowgression.sampling.batches import sample_batches

    batches = sample_batches(
        pipe, labels, call, seed=facts["seed"], batch_size=facts["batch_size"], only=numbers, shown=here.is_main
    )

    def work() -> None:
        for number, batch in zip(numbers, batches, strict=True):
            parts.write(number, batch.images)

    guarded(parts, work)


def guarded(parts: "Parts", work: Any) -> Any:
    """The result of `work()`; what can go wrong in it becomes a PartsError that says what is kept.

    Raises:
        PartsError: a value that cannot work, a result that is not finite, a file that cannot be written, Ctrl-C.
    """
    try:
        return work()
    except (InputError, FloatingPointError) as error:  # such as a precision or guidance beyond this model
        raise PartsError(f"{error}{_kept(parts)}", WRONG_INPUT) from error
    except OSError as error:
        raise PartsError(f"cannot write the images ({error}).{_kept(parts)}", FAILED) from error
    except KeyboardInterrupt as error:
        raise PartsError(f"interrupted.{_kept(parts)}", INTERRUPTED) from error


def wait_for_all(parts: "Parts", here: Processes) -> None:
    """Wait until all processes have made their batches.

    Raises:
        PartsError: one of them is gone.
    """
    try:
        here.wait()
    except RuntimeError as error:
        message = f"process {here.index} of 0 to {here.count - 1}: another process was lost.{_kept(parts)}"
        raise PartsError(message, FAILED) from error


def _kept(parts: "Parts") -> str:
    if not parts.kept_in.exists() or not any(parts.kept_in.iterdir()):
        return ""
    return f" Finished images are kept in {parts.kept_in}; the same command resumes from there."
