"""The sampling options as flags of a command, as they are declared in `sampling.options`."""

import argparse
from collections.abc import Mapping, Sequence
from typing import Any

from flowgression.cli._parser import CommandParser
from flowgression.sampling.options import all_options, default_text

FLAG_NAMES = {"solver_options": "solver_option"}  # flags that give one entry of an option


def add_option_flags(parser: CommandParser, names: Sequence[str], defaults: Mapping[str, Any] | None = None) -> None:
    """The flags of the sampling options of these names; `defaults` are a command's own, for the help."""
    for entry in all_options().values():
        if entry.name in names and (flag := entry.metadata["flag"]) is not None:
            name = FLAG_NAMES.get(entry.name, entry.name).replace("_", "-")
            shown = f" ({defaults[entry.name]})" if defaults and entry.name in defaults else default_text(entry)
            parser.add_argument(f"--{name}", dest=entry.name, help=f"{entry.metadata['help']}{shown}", **flag)


def chosen_options(args: argparse.Namespace, defaults: Mapping[str, Any]) -> dict[str, Any]:
    """The options that `defaults` names, as given on the command line or as they are there."""
    given = {name: getattr(args, name) for name in defaults}
    return {name: defaults[name] if value is None else value for name, value in given.items()}
