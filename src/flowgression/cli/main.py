"""The `flowgression` command: hands over to the subcommand's file and turns errors into exit statuses.

Every module of this folder without a leading underscore is a command: it has SUMMARY, one line about it, and
`run(argv) -> int`. They import whatever is slow inside functions, so that help comes at once.
"""

import errno
import os
import pkgutil
import sys
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

import flowgression
import flowgression.cli
from flowgression.errors import InputError, did_you_mean
from flowgression.text import one_line, say

FAILED, USAGE_ERROR, INTERRUPTED = 1, 2, 130

FULL = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def main(argv: Sequence[str] | None = None) -> int:
    """Run `flowgression ARGV`. Returns 0, 1 (a file that cannot be used), 2 (wrong input) or 130 (Ctrl-C)."""
    arguments = list(sys.argv[1:] if argv is None else argv)
    prefix = " ".join(["flowgression", *(name for name in arguments[:1] if name in commands())])
    try:
        try:
            with _plain_warnings(prefix):
                return _dispatch(arguments)
        finally:  # also of --help, which ends by SystemExit: what cannot be written is to fail here, not at exit
            sys.stdout.flush()
    except InputError as error:
        say(f"{prefix}: {' '.join(str(error).split())}", file=sys.stderr)
        return USAGE_ERROR
    except BrokenPipeError:
        # Whoever read the output, such as `head`, has seen enough. What is still buffered must not fail at exit.
        for stream in (sys.stdout, sys.stderr):
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
        return FAILED
    except OSError as error:
        if error.filename is None and error.errno not in FULL:
            raise
        # A full disk, a file that one may not read, a name that is too long: the system's words, and which file.
        where = "" if error.filename is None else f": {one_line(error.filename)}"
        say(f"{prefix}: {error.strerror or error}{where}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print(f"{prefix}: interrupted", file=sys.stderr)
        return INTERRUPTED


@contextmanager
def _plain_warnings(prefix: str) -> Iterator[None]:
    """Show what the package warns a user of as one line, without the file and the line of code that say it."""
    package, before = str(Path(flowgression.__file__).parent), warnings.formatwarning

    def shown(message: Any, category: type[Warning], filename: str, lineno: int, line: str | None = None) -> str:
        if category is UserWarning and filename.startswith(package):
            return f"{prefix}: warning: {one_line(message)}\n"
        return before(message, category, filename, lineno, line)

    warnings.formatwarning = shown
    try:
        yield
    finally:
        warnings.formatwarning = before


def commands() -> list[str]:
    """The names of all commands."""
    found = (module.name for module in pkgutil.iter_modules(flowgression.cli.__path__))
    return sorted(name.replace("_", "-") for name in found if name != "main" and not name.startswith("_"))


def _module(name: str) -> Any:
    return import_module(f"flowgression.cli.{name.replace('-', '_')}")


def _dispatch(arguments: list[str]) -> int:
    if not arguments or arguments[0] in ("-h", "--help", "help"):
        print(_overview())
        return 0
    name, *rest = arguments
    if name in ("-V", "--version"):
        print(f"flowgression {flowgression.__version__}")
        return 0
    if name not in commands():
        what = "option" if name.startswith("-") else "command"
        raise InputError(f"unknown {what} {name!r}: {did_you_mean(name, [*commands(), '--help', '--version'])}")
    return _module(name).run(rest)


def _overview() -> str:
    lines = [
        "usage: flowgression COMMAND [ARGUMENTS]   (flowgression COMMAND --help says which)",
        "",
        "Autoregressive flow models for image generation.",
        "",
        "commands:",
        *(f"  {name:<19}{_module(name).SUMMARY}" for name in commands()),
        "",
        "options:",
        "  -h, --help          show this text",
        "  -V, --version       show the version",
    ]
    return "\n".join(lines)
