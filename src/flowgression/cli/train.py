"""`flowgression train`: train a model as a YAML file and flags say."""

import argparse
import difflib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import fields, is_dataclass
from importlib import resources
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_type_hints

from flowgression.cli._processes import Processes
from flowgression.errors import InputError, did_you_mean
from flowgression.text import say

if TYPE_CHECKING:
    from flowgression.training.config import TrainConfig
    from flowgression.training.session import TrainResult

SUMMARY = "train a model on the built-in digits, a folder of images or a Hugging Face data set"

DESCRIPTION = """Train a model. Values come from the defaults, then --config FILE.yaml (or the name of a shipped
configuration: {names}), then flags, the later winning. Dashes and underscores in flags mean the same.
With --data.path DIR --minutes N and no model, all the rest is chosen by looking at the pictures and by a measurement
of this machine.
Ctrl-C saves a checkpoint and stops; --resume resumes from the newest one."""

SWITCHES = ("resume", "allow_changes")
AUTOENCODER = "autoencoder"
NO_FIELDS = (*SWITCHES, AUTOENCODER)  # flags that are no part of the configuration
LATENT_SIZE = 64  # pixels a side of the images that become latents, where nothing says it
ENCODE_FIRST = (
    "encode the images first, once, and train on latents: pictures-kl8 (built in), the folder of `train-autoencoder`, "
    "or a name"
)
PRINT = "print_config"
USAGE_ERROR = 2
NEAREST_SAMPLES = 32  # that a run on one's own pictures compares with them at its end
OTHER_CONFIGS = ("features-", "study-")  # beginnings of files that lie beside the training configurations


def run(argv: list[str]) -> int:
    """Run the command.

    Returns:
        0 when training is through; 1 when it cannot continue (a loss that is not finite, a full disk); 2 for wrong
        input; 128 + n when signal n stopped it with a checkpoint: 130 for Ctrl-C, 143 for SIGTERM.
    """
    values = parse(argv)
    if values.get(AUTOENCODER):
        argv = [*argv, *latents_of(values)]
        values = parse(argv)
    values.pop(AUTOENCODER, None)
    switches = {name: values.pop(name, False) for name in SWITCHES}
    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import config_from_dict

    if not names_a_model(argv):
        values = chosen_values(argv, values, resume=switches["resume"])
    config = config_from_dict(TrainConfig, values)
    from flowgression.training.errors import AloneError, RunError
    from flowgression.training.loop import train

    here = Processes.from_environment()
    # A launcher that has lost a process starts all of them anew: they resume, whatever the command line says.
    switches["resume"] = switches["resume"] or here.restarts > 0
    try:
        result = train(config, **switches)
    except InputError as error:
        # What is wrong with the input is wrong with it on every process of a machine, but for an image in a batch.
        if here.is_local_main or isinstance(error, AloneError):
            raise
        return USAGE_ERROR
    except RunError as error:
        if here.is_main or isinstance(error, AloneError):
            say(f"flowgression train: {error}", file=sys.stderr)
        return 1
    if here.is_main:
        report(result, config.out)
        if not names_a_model(argv) and result.pipeline is not None:
            say_nearest(config, result.pipeline)
    if result.stopped_by is not None and result.pipeline is None:
        return 128 + result.stopped_by
    return 0


def latents_of(values: Mapping[str, Any]) -> list[str]:
    """Encode the images of a run with its --autoencoder, once, and give the flags that let it read the latents.

    Raises:
        InputError: there are no images or no such autoencoder, or what is cached was made otherwise.
    """
    from flowgression.cli import cache_latents
    from flowgression.data.config import DataConfig
    from flowgression.training.automatic import default_out
    from flowgression.training.nested import config_from_dict

    data = config_from_dict(DataConfig, values.get("data", {}))
    out = values.get("out") or default_out(data)
    cache = Path(out) / "latents"
    settings = {
        "--data": data.path,
        "--split": data.split,
        "--image-size": data.image_size or LATENT_SIZE,
        "--resize": data.resize,
        "--autoencoder": values[AUTOENCODER],
        "--out": cache,
        "--device": values.get("device", "auto"),
    }
    if cache_latents.run([str(word) for pair in settings.items() for word in pair]):
        raise InputError(f"the images of {data.path} could not be encoded into {cache}")
    return ["--data.path", str(cache), "--out", str(out)]


def names_a_model(argv: Sequence[str]) -> bool:
    """Whether anything says what to train; else it is chosen by the data."""
    models = ("--model.family", "--model.preset", "--model.pretrained")
    chosen = ("--config", *models, "--help", "--print_config", "--print-config", "-h")
    return any(argument.startswith(chosen) for argument in argv)


def chosen_values(argv: Sequence[str], values: dict[str, Any], *, resume: bool) -> dict[str, Any]:
    """Nested values chosen by looking at the pictures and the machine, below those that flags name.

    A run that resumes has chosen before: its configuration is taken from its folder.

    Raises:
        InputError: no pictures are named, or they cannot be read.
    """
    flags = [name for name in flag_names(argv) if name not in NO_FIELDS]
    if "data.path" not in flags:
        names = ", ".join(shipped_configs())
        raise InputError(
            "nothing says what to train: give --data.path, a folder of pictures, with --minutes; or --config, a YAML "
            f"file or one of {names}. To start: flowgression train --config quick --out runs/quick"
        )
    from flowgression.data.config import DataConfig
    from flowgression.training.automatic import choose, default_out
    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import config_from_dict

    data = config_from_dict(DataConfig, values["data"])
    saved = Path(values.get("out") or default_out(data)) / "config.yaml"
    if resume and saved.is_file():
        from flowgression.documents import read_yaml

        chosen = read_yaml(saved)
    else:
        choice = choose(data, values.get("minutes"), values.get("clock", TrainConfig.clock))
        chosen = choice.values
        say("\n".join(choice.reasons))
        if others := [flag for flag in flags if flag.startswith(("model.", "batch_size"))]:
            say(f"Taken as given instead of what is chosen: {', '.join(others)}; the number of images changes with it.")
    return with_flags(chosen, values, flags)


def with_flags(values: dict[str, Any], given: Mapping[str, Any], flags: Sequence[str]) -> dict[str, Any]:
    """Nested `values` with what flags of these dotted names give on top; one that names a section replaces it."""
    for flag in flags:
        *sections, last = flag.split(".")
        source, target = given, values
        for section in sections:
            source, below = source[section], target.get(section)
            target[section] = target = dict(below) if isinstance(below, Mapping) else {}
        target[last] = source[last]
    return values


def report(result: "TrainResult", out: str) -> None:
    """Say how a run ended and what to do next."""
    if result.stopped_by is not None and result.pipeline is None:
        say(f"Stopped at step {result.step}; saved {result.checkpoint}. Resume with the same command and --resume.")
        return
    say(f"Trained {result.step} steps. The model is in {result.pipeline}{weights_taken(result)}; draw samples with")
    words = ("flowgression", "sample", "--model", result.pipeline, "--out", Path(out) / "samples.png")
    say(f"  {shlex.join(map(str, words))}")


def weights_taken(result: "TrainResult") -> str:
    """Which EMA weights are the model, as a part of a sentence; nothing where they are the last ones of necessity."""
    if result.best is None:
        return ""
    which = "the last" if result.best["step"] == result.step else f"those of step {result.best['step']}"
    return (
        f", with the EMA weights whose loss on held-out images was lowest ({which}: {result.best['held_out_loss']:.4f})"
    )


def say_nearest(config: "TrainConfig", pipeline: Path) -> None:
    """Say whether what the network draws looks like copies of its pictures, and put the nearest pairs beside them."""
    from flowgression.cli import nearest

    settings = {
        "--model": pipeline,
        "--data": config.data.path,
        "--split": config.data.split,
        "--out": Path(config.out) / "nearest.png",
        "--num-images": NEAREST_SAMPLES,
        "--num-inference-steps": config.preview.num_inference_steps,
        "--device": config.device,
    }
    try:
        nearest.run([str(word) for pair in settings.items() for word in pair])
    except InputError as error:  # such as a single picture: the training is through all the same
        say(f"Nearest pictures: {error}")


def make_parser() -> Any:
    """The parser: one flag for every field of TrainConfig and its sections."""
    from jsonargparse import ArgumentParser

    from flowgression.training.config import TrainConfig

    parser = ArgumentParser(
        prog="flowgression train",
        description=DESCRIPTION.format(names=", ".join(shipped_configs())),
        exit_on_error=False,
    )
    absent = argparse.SUPPRESS
    parser.add_argument(
        "--config", action="append", default=absent, help="YAML file, or the name of a shipped configuration"
    )
    parser.add_argument(
        f"--{PRINT}", action="store_true", default=absent, help="print the whole configuration and stop"
    )
    resume, allow = "resume from the newest checkpoint in --out", "with --resume: accept a configuration that changed"
    parser.add_argument("--resume", action="store_true", default=argparse.SUPPRESS, help=resume)
    parser.add_argument("--allow_changes", action="store_true", default=argparse.SUPPRESS, help=allow)
    parser.add_argument(f"--{AUTOENCODER}", default=absent, help=ENCODE_FIRST)
    parser.add_class_arguments(TrainConfig)
    return parser


def parse(argv: Sequence[str]) -> dict[str, Any]:
    """The nested values that files and flags give, the flags on top; defaults are none of them.

    Raises:
        InputError: an unknown flag or key (with the nearest known one), a value of a wrong type, a missing file.
    """
    from jsonargparse import ArgumentError

    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import merged

    arguments = normal_arguments(argv, field_types(TrainConfig))
    try:
        given = make_parser().parse_args([each for each in arguments if each != f"--{PRINT}"], defaults=False).as_dict()
    except ArgumentError as error:
        raise InputError(" ".join(str(error).split())) from error
    values: dict[str, Any] = {}
    for name in given.pop("config", []):
        values = merged(values, read_config(name))
    flags = [name for name in flag_names(arguments) if name not in ("config", PRINT)]
    values = with_flags(values, given, flags)
    if f"--{PRINT}" in arguments:
        print_config({name: value for name, value in values.items() if name not in NO_FIELDS})
    return values


def print_config(values: dict[str, Any]) -> None:
    """Print the configuration that these values make, itself a configuration, and leave."""
    import yaml

    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import config_from_dict, config_to_dict

    say(yaml.safe_dump(config_to_dict(config_from_dict(TrainConfig, values)), sort_keys=False).rstrip())
    raise SystemExit(0)


def flag_names(argv: Sequence[str]) -> list[str]:
    """The names of the flags among arguments, as fields are called."""
    return [each[2:].partition("=")[0].replace("-", "_") for each in argv if each.startswith("--")]


def normal_arguments(argv: Sequence[str], types: dict[str, Any]) -> list[str]:
    """The arguments with flags checked and spelt as the parser knows them.

    --batch-size=5 becomes --batch_size 5, and --compile alone becomes --compile true.

    Args:
        types: Type of the value by flag, without the two dashes.

    Raises:
        InputError: an unknown flag (with the nearest known one).
    """
    known = [*types, *NO_FIELDS, "config", "help", PRINT]
    normal: list[str] = []
    for position, argument in enumerate(argv):
        if not argument.startswith("--"):
            normal.append(argument)
            continue
        name, equals, value = argument[2:].partition("=")
        name = name.replace("-", "_")
        if name not in known and not name.startswith("model.args."):
            raise InputError(f"unknown flag --{name}; {_nearest_flag(name, known)}")
        normal.append(f"--{name}")
        if equals:
            normal.append(value)
        elif types.get(name) is bool and (position + 1 == len(argv) or argv[position + 1].startswith("--")):
            normal.append("true")
    return normal


def read_config(name: str) -> dict[str, Any]:
    """What the file holds that --config names: a path, or one of the shipped configurations.

    Raises:
        InputError: there is none, it is not YAML, or it has an unknown key.
    """
    shipped = shipped_configs()
    path = Path(name) if Path(name).is_file() else shipped.get(name)
    if path is None:
        hint = did_you_mean(name, shipped)
        raise InputError(f"--config {name!r} is neither a file nor a shipped configuration; {hint}")
    import yaml

    from flowgression.documents import read_yaml
    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import check_keys

    try:
        content = read_yaml(path)
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path} is not YAML: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold keys and values, as `flowgression train --print_config` shows them")
    try:
        check_keys(TrainConfig, content)
    except InputError as error:
        raise InputError(f"{path}: {error}") from None
    return content


def shipped_configs() -> dict[str, Path]:
    """The training configurations inside the package: their names and files."""
    folder = Path(str(resources.files("flowgression"))) / "configs"
    files = (file for file in sorted(folder.glob("*.yaml")) if not file.stem.startswith(OTHER_CONFIGS))
    return {file.stem: file for file in files}


def field_types(kind: type, prefix: str = "") -> dict[str, Any]:
    """The types of a dataclass's fields and of those of its sections, by dotted name."""
    types: dict[str, Any] = {}
    hints = get_type_hints(kind)
    for entry in fields(kind):
        name, hint = prefix + entry.name, hints[entry.name]
        types[name] = hint
        if is_dataclass(hint):
            types |= field_types(hint, f"{name}.")  # type: ignore[arg-type]
    return types


def _nearest_flag(name: str, known: Sequence[str]) -> str:
    # People leave out the section (--lr), so its flags are also compared by their last part.
    last_parts = {flag.rpartition(".")[2]: flag for flag in known}
    near = [last_parts[name]] if name in last_parts else difflib.get_close_matches(name, known, n=1, cutoff=0.6)
    near = near or [last_parts[part] for part in difflib.get_close_matches(name, last_parts, n=1, cutoff=0.6)]
    guess = f"did you mean --{near[0]}? " if near else ""
    return f"{guess}`flowgression train --help` lists them"
