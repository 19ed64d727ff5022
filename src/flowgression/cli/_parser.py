"""The argument parser of the commands: mistakes become InputErrors that name the nearest known flag."""

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowgression.errors import InputError, did_you_mean

LARGEST = (2 - 2**-23) * 2.0**127  # of float32


class CommandParser(argparse.ArgumentParser):
    """argparse with the errors of this library. In the names of flags dashes and underscores mean the same."""

    def __init__(self, command: str, description: str, **kwargs: Any) -> None:
        super().__init__(
            prog=f"flowgression {command}",
            description=description,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
            **kwargs,
        )
        self.register("type", int, whole_number)
        self.register("type", float, finite_number)

    def add_num_threads(self, default: int | None = None) -> None:
        """The flag --num-threads, which `parse` checks and carries out; by `default` as many as PyTorch chooses."""
        shown = "as PyTorch chooses" if default is None else str(default)
        self.add_argument("--num-threads", type=int, default=default, metavar="N", help=f"processor threads ({shown})")

    def add_seed(self, decides: str) -> None:
        """The flag --seed, which `parse` checks: torch would give a negative one the noise of another seed."""
        self.add_argument("--seed", type=int, default=0, metavar="N", help=f"{decides} (%(default)s)")

    def parse(self, argv: Sequence[str]) -> argparse.Namespace:
        """The values of all arguments.

        Raises:
            InputError: an unknown flag (with the nearest known one), or a missing or wrong value.
        """
        values, unknown = self.parse_known_intermixed_args([self._present_name(argument) for argument in argv])
        if unknown:
            flags = [flag for action in self._actions for flag in action.option_strings if flag.startswith("--")]
            raise InputError(f"unknown argument {unknown[0]!r}: {did_you_mean(unknown[0], flags)}")
        for name, value in vars(values).items():
            setattr(values, name, _home(value))
        if (threads := getattr(values, "num_threads", None)) is not None:
            use_threads(threads)
        if (seed := getattr(values, "seed", 0)) < 0:
            raise InputError(f"--seed is {seed}; expected 0 or more.")
        return values

    def error(self, message: str) -> Any:
        raise InputError(f"{message}; see {self.prog} --help.")

    def _present_name(self, argument: str) -> str:
        if not argument.startswith("--"):
            return argument
        name, equals, value = argument.partition("=")
        name = name.replace("_", "-")
        return name + equals + value


def _home(value: Any) -> Any:
    """A path that begins with ~, which no shell reads in --out=~/x, with the home folder; all else as it is."""
    if isinstance(value, list):
        return [_home(each) for each in value]
    if isinstance(value, str | Path) and str(value).startswith(("~/", "~" + os.sep)):
        return type(value)(os.path.expanduser(value))
    return value


def use_threads(number: int) -> None:
    """Let torch compute with so many threads; InputError for less than one."""
    if number < 1:
        raise InputError(f"--num-threads is {number}; expected one or more.")
    import torch

    torch.set_num_threads(number)


def whole_number(text: str) -> int:
    """An int of at most 64 bits, which is what tensors, files and the system can count."""
    if abs(number := int(text)) >= 2**63:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is too large a number")
    return number


def finite_number(text: str) -> float:
    """A float within the range of float32, in which tensors are."""
    if not abs(number := float(text)) <= LARGEST:
        raise argparse.ArgumentTypeError(f"{text[:40]!r} is not a finite number of single precision")
    return number
