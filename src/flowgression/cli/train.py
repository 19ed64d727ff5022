"""`flowgression train`: train a model as a YAML file and flags say."""

import sys
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import Any, get_type_hints

from flowgression.errors import InputError, did_you_mean

SUMMARY = "train a model on the built-in digits, a folder of images or a Hugging Face data set"

DESCRIPTION = """Train a model. Values come from the defaults, then --config FILE.yaml (or the name of a shipped
configuration: {names}), then flags, the later winning. Dashes and underscores in flags mean the same.
Ctrl-C saves a checkpoint and stops; --resume goes on from the newest one."""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status: 0, 1 for a loss that is not finite, 128 + n for signal n."""
    parser = make_parser()
    values = parse(parser, argv)
    from flowgression.training.config import TrainConfig, config_from_dict

    resume, allow_changes = values.pop("resume"), values.pop("allow_changes")
    config = config_from_dict(TrainConfig, values)
    from flowgression.training.loop import train
    from flowgression.training.trainer import NonFiniteError

    try:
        result = train(config, resume=resume, allow_changes=allow_changes)
    except NonFiniteError as error:
        print(f"flowgression train: {error}", file=sys.stderr)
        return 1
    if result.pipeline is None:
        assert result.stopped_by is not None
        print(f"Stopped at step {result.step}; saved in {result.checkpoint}. Go on with the same command and --resume.")
        return 128 + result.stopped_by
    print(f"Trained {result.step} steps. The model is in {result.pipeline}; draw samples with")
    print(f"  flowgression sample --model {result.pipeline} --out {Path(config.out) / 'samples.png'}")
    return 0


def make_parser() -> Any:
    """The parser: one flag for every field of TrainConfig and its sections."""
    from jsonargparse import ArgumentParser

    from flowgression.training.config import TrainConfig

    parser = ArgumentParser(
        prog="flowgression train",
        description=DESCRIPTION.format(names=", ".join(shipped_configs())),
        exit_on_error=False,
    )
    parser.add_argument("--config", action="config", help="YAML file, or the name of a shipped configuration")
    parser.add_argument("--resume", action="store_true", help="go on from the newest checkpoint in --out")
    parser.add_argument(
        "--allow-changes", action="store_true", help="with --resume: accept a configuration that changed"
    )
    parser.add_class_arguments(TrainConfig)
    return parser


def parse(parser: Any, argv: Sequence[str]) -> dict[str, Any]:
    """The nested values of files and flags.

    Raises:
        InputError: an unknown flag or key (with the nearest known one), a value of a wrong type, a missing file.
    """
    from jsonargparse import ArgumentError

    from flowgression.training.config import TrainConfig

    sections, leaves = field_names(TrainConfig)
    flags = [*leaves, *sections, "config", "resume", "allow_changes", "help", "print_config"]
    arguments = list(normal_flags(argv, flags))
    for index, argument in enumerate(arguments):
        if argument == "--config" and index + 1 < len(arguments):
            arguments[index + 1] = str(find_config(arguments[index + 1], TrainConfig))
    try:
        values = parser.parse_args(arguments).as_dict()
    except ArgumentError as error:
        raise InputError(" ".join(str(error).split())) from error
    values.pop("config")
    return values


def normal_flags(argv: Sequence[str], known: Sequence[str]) -> Iterator[str]:
    """The arguments with underscores in the names of flags, --flag=value split in two, and names checked."""
    for argument in argv:
        if not argument.startswith("--"):
            yield argument
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        if name not in known and not name.startswith("model.args."):
            raise InputError(f"unknown flag --{name}; {did_you_mean(name, known)}")
        yield {"allow_changes": "--allow-changes"}.get(name, f"--{name}")
        if equals:
            yield value


def find_config(name: str, kind: type) -> Path:
    """The file that --config names: a path, or one of the shipped configurations; its keys are checked.

    Raises:
        InputError: there is none, it is not YAML, or it has an unknown key.
    """
    shipped = shipped_configs()
    path = Path(name) if Path(name).is_file() else shipped.get(name)
    if path is None:
        raise InputError(
            f"--config {name!r} is neither a file nor a shipped configuration; {did_you_mean(name, shipped)}"
        )
    import yaml

    try:
        content = yaml.safe_load(path.read_text())
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    from flowgression.training.config import config_from_dict

    if not isinstance(content, dict):
        raise InputError(f"{path} must hold keys and values, as `flowgression train --print_config` shows them")
    config_from_dict(kind, content)
    return path


def shipped_configs() -> dict[str, Path]:
    """The configurations inside the package: their names and files."""
    folder = Path(str(resources.files("flowgression"))) / "configs"
    return {file.stem: file for file in sorted(folder.glob("*.yaml"))}


def field_names(kind: type, prefix: str = "") -> tuple[list[str], list[str]]:
    """The dotted names of a dataclass's sections and of its plain fields."""
    sections: list[str] = []
    leaves: list[str] = []
    hints = get_type_hints(kind)
    for entry in fields(kind):
        name = prefix + entry.name
        if is_dataclass(hints[entry.name]):
            inner_sections, inner_leaves = field_names(hints[entry.name], f"{name}.")  # type: ignore[arg-type]
            sections += [name, *inner_sections]
            leaves += inner_leaves
        else:
            leaves.append(name)
    return sections, leaves
