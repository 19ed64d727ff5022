"""Why a run can end early through no fault of its configuration."""

from torch.distributed import DistError

from flowgression.errors import InputError

_GLOO_SIGNS = ("gloo", "Connection closed by peer", "Connection reset by peer")


class RunError(RuntimeError):
    """A run cannot continue; the message says why, what is saved and how to resume."""


class NonFiniteError(RunError):
    """The loss or the gradient of a step is not finite. The step was not taken; the weights are those before it."""


class AloneError(Exception):
    """What one process raises by itself, while the others know nothing of it."""


class LostProcessError(RunError, AloneError):
    """Another process of the run is gone."""


class LostReaderError(RunError, AloneError):
    """A process that reads images ahead is gone."""


class BatchError(InputError, AloneError):
    """An image of a batch cannot be used."""


def is_lost_process(error: RuntimeError) -> bool:
    """Whether `error` is what a collective operation raises when another process has died."""
    return isinstance(error, DistError) or any(sign in str(error) for sign in _GLOO_SIGNS)


def is_lost_reader(error: RuntimeError) -> bool:
    """Whether `error` is what a DataLoader raises, wherever the main thread happens to be, when a worker has died."""
    return str(error).startswith("DataLoader worker (pid")


def reader_message(error: Exception) -> str:
    """The message of an error raised while a batch was read.

    A DataLoader hands on an error of one of its workers as the text of its traceback, which ends with the message.
    """
    text = str(error)
    if "in DataLoader worker" not in text:
        return text
    return text.rpartition(f"{type(error).__name__}: ")[2].strip()
