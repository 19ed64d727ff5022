"""One case: a command in this process, under a watchdog, and what is wrong with how it ended."""

import contextlib
import gc
import hashlib
import io
import re
import resource
import shutil
import signal
import traceback
import warnings
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from flowgression import InputError
from flowgression.cli.main import main

CPU_SECONDS = 10  # of this process; a shared machine may take longer by the clock
CLOCK_SECONDS = 120
MEMORY = 2**31  # bytes by which one case may raise the largest memory of the process

_ORDERS = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\x7f-\x9f\u202a-\u202e]")


@dataclass
class Case:
    """What is handed in.

    Attributes:
        run: arguments of the command, or a call that may only raise InputError.
        keep: files and folders that must be as before if it fails.
        must_not_exist: what would be there if something that was handed in had been executed.
    """

    run: Sequence[str] | Callable[[], object]
    keep: Sequence[Path] = ()
    must_not_exist: Path | None = None


@dataclass
class Outcome:
    """How a case ended.

    Attributes:
        status: exit status; 2 for an InputError of a call.
        faults: what must not happen; empty if all is well.
        output: what it printed.
    """

    status: int | None
    faults: list[str] = field(default_factory=list)
    output: str = ""


class HangError(BaseException):
    """Raised by the watchdog; no `except Exception` stops it."""


def run_case(case: Case, place: Path) -> Outcome:
    """Run a case in the folder `place`, which is the current one and removed afterwards by the caller."""
    before = {path: fingerprint(path) for path in case.keep}
    out, err = io.StringIO(), io.StringIO()
    memory = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    status, faults = None, []
    try:
        with contextlib.chdir(place), contextlib.redirect_stdout(out), contextlib.redirect_stderr(err), watchdog():
            status = outcome_of(case)
    except HangError as error:
        faults.append(f"hang: {error}; {where(error)}")
    except BaseException as error:  # whatever comes through is what this looks for
        faults.append(f"{type(error).__name__}: {str(error)[:200]}; {where(error)}")
    if status == 2 and not isinstance(case.run, Callable):
        said = [line for line in err.getvalue().splitlines() if line.startswith("flowgression")]
        if len(said) != 1:
            faults.append(f"{len(said)} lines of error instead of one: {err.getvalue()[:300]!r}")
    if status not in (0, 1, 2, None):
        faults.append(f"exit status {status}")
    if "Traceback" in err.getvalue():
        faults.append(f"a printed traceback: {err.getvalue()[-500:]}")
    if status != 0:
        faults += [f"damaged: {path}" for path, old in before.items() if fingerprint(path) != old]
    faults += [f"left behind: {path.relative_to(place)}" for path in sorted(place.rglob("*.tmp"))]
    if orders := _ORDERS.search(out.getvalue() + err.getvalue()):
        faults.append(f"an order to the terminal was printed: {orders[0]!r}")
    if case.must_not_exist is not None and case.must_not_exist.exists():
        faults.append("what was handed in was executed")
    grown = 1024 * (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - memory)
    if grown > MEMORY:
        faults.append(f"memory: {grown / 2**30:.1f} GiB more")
    return Outcome(status, faults, out.getvalue() + err.getvalue())


def outcome_of(case: Case) -> int:
    """The exit status."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if isinstance(case.run, Callable):
            try:
                case.run()
            except InputError:
                return 2
            return 0
        try:
            return main(list(case.run))
        except SystemExit as stop:  # --help
            return int(stop.code or 0)


def where(error: BaseException) -> str:
    """The innermost place in this package that an error came through."""
    frames = [frame for frame in traceback.extract_tb(error.__traceback__) if "flowgression" in frame.filename]
    return " < ".join(f"{Path(frame.filename).name}:{frame.lineno} {frame.name}" for frame in frames[:-4:-1])


@contextlib.contextmanager
def watchdog() -> Iterator[None]:
    """HangError after so many seconds of CPU, or by the clock."""

    def bark(number: int, frame: object) -> None:
        raise HangError("CPU" if number == signal.SIGPROF else "clock")

    timers = {signal.SIGPROF: (signal.ITIMER_PROF, CPU_SECONDS), signal.SIGALRM: (signal.ITIMER_REAL, CLOCK_SECONDS)}
    old = {number: signal.signal(number, bark) for number in timers}
    for timer, seconds in timers.values():
        signal.setitimer(timer, seconds)
    try:
        yield
    finally:
        for timer, _ in timers.values():
            signal.setitimer(timer, 0)
        for number, handler in old.items():
            signal.signal(number, handler)


def fingerprint(path: Path) -> str | None:
    """The content of a file, or of all files in a folder; None where there is nothing."""
    if not path.exists():
        return None
    digest = hashlib.sha256()
    for file in sorted(path.rglob("*")) if path.is_dir() else [path]:
        if file.is_file():
            digest.update(f"{file.relative_to(path)}\0".encode())
            digest.update(file.read_bytes())
    return digest.hexdigest()


def clean(place: Path) -> None:
    """Remove what a case left, memory maps included."""
    gc.collect(0)
    shutil.rmtree(place, ignore_errors=True)
