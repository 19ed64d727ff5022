"""What `flowgression circuit` was asked for: its arguments, each checked against the action, and the program meant."""

import argparse
import shlex
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from flowgression.cli._options import add_option_flags, chosen_options
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, did_you_mean
from flowgression.files import try_writing

DESCRIPTION = """flowgression circuit ACTION [WHAT] [OPTIONS]

  compile WHAT --out FILE.npz   build a circuit, save it and report its size
  verify WHAT                      compare it with the integer interpreter and plant faults
  verify --suite                   all claims about the circuits, at full size
  prove WHAT --out DIR             prove the circuit for every input; DIR gets circuit.npz and certificate.json
  prove --cells WHAT --out DIR     prove each distinct cell, also of what only count can reach: flowar-s, ...
  digest [--model] WHAT            the SHA-256 of what prove claims, from the model alone: the checker prints it too
  scale [WHAT] [--plot FILE]       depth and size against n, with exponents (default: attention and flowar; also
                                   fastflowar, sit, arflow and every layer)
  count WHAT                       figures without building; WHAT may also be a published size at 256 px: flowar-s, -b,
                                   -l, -h, fastflowar-s ...
  export WHAT --format FORMAT --out FILE   as .v (verilog), .opb or .blif
  draw WHAT --out FILE             a small circuit, or one that compile wrote, as .dot or .svg

WHAT is a layer (attention, linear, mlp, ...), `flowar` (random weights), or a trained model: its folder or name.
A trained model's numbers have p bits each, with as many fraction bits as the value's measured range leaves; --fraction
gives all values one format instead."""

FORMAT = ("bits", "fraction", "backend")
BUILDING = (*FORMAT, "weights_as_inputs", "memory")
GUIDANCE = ("guidance_scale", "guidance_interval")
ACTIONS = {
    "compile": (*BUILDING, "out"),
    "verify": (*BUILDING, "samples", "faults", "suite"),
    "scale": (*FORMAT, "width", "sides", "plot", "log_bits", "measured"),
    "count": (*FORMAT, "weights_as_inputs"),
    "prove": (*BUILDING, "out", "cells", "text"),
    "digest": (*FORMAT, "weights_as_inputs", "cells", "model"),
    "draw": (*BUILDING, "out"),
    "export": (*BUILDING, "out", "format"),
}
"""The options that each action reads; but for `scale` also those of WHAT."""
SIZES = {
    "layer": ("n", "width"),
    "small": ("scales", "width", "steps"),
    "model": ("steps", "solver", *GUIDANCE),
    "preset": ("steps", *GUIDANCE),
}
"""The options that give the size of each kind of WHAT."""
OPTIONS: dict[str, dict[str, Any]] = {
    "n": {"type": int, "help": "side of a layer's map (2)"},
    "width": {"type": int, "help": "width of a layer, or of both parts of flowar (2)"},
    "scales": {"help": "sides of flowar's scales (2,4)"},
    "steps": {"type": int, "help": "steps (per scale) of the solver (1; presets 25)"},
    "sides": {"help": "n of scale (layers 2,3,4,5,6; flowar 4,6,8)"},
    "log_bits": {"type": float, "help": "scale with p = this times log2 n"},
    "measured": {"action": "store_true", "help": "scale with formats by measured ranges"},
    "bits": {"type": int, "default": 8, "help": "p, bits of a number, 4 to 24 (8)"},
    "fraction": {"type": int, "help": "f, fraction bits (p - 4; models: measured)"},
    "backend": {"default": "table", "help": "functions of one number: table or crt (table)"},
    "weights_as_inputs": {"action": "store_true", "help": "one circuit for all weights"},
    "samples": {"type": int, "default": 1024, "help": "random inputs of verify (1024)"},
    "faults": {"type": int, "default": 50, "help": "faults that verify injects (50)"},
    "suite": {"action": "store_true", "help": "verify all claims at full size, and nothing else"},
    "cells": {"action": "store_true", "help": "the distinct cells alone"},
    "text": {"action": "store_true", "help": "prove: also as plain text, for the checker of proofs/"},
    "model": {"help": "WHAT of digest"},
    "format": {"default": "verilog", "help": "of export: verilog, opb or blif (verilog)"},
    "out": {"metavar": "FILE", "help": "file to write; of prove, the folder"},
    "plot": {"help": "plot of scale: .svg, .png or .pdf"},
    "memory": {"type": float, "help": "GiB that building may use (what is free)"},
}
SAMPLING = {"solver": "taylor of a HOFAR, euler of others", "guidance_scale": "1, none", "guidance_interval": "0 1"}
"""The sampling options that become part of a circuit, and what they are where they are not given."""
USUAL = {"n": 2, "width": 2, "scales": "2,4"}
LEAST = {"steps": 1, "log_bits": 1, "samples": 1, "faults": 0, "memory": 0}


def parser_of(action: str) -> CommandParser:
    """The arguments of an action; of "" those of all."""
    sizes = () if action == "scale" else [name for names in SIZES.values() for name in names]
    used = {*ACTIONS[action], *sizes} if action else {*OPTIONS, *SAMPLING}
    parser = CommandParser(f"circuit {action}".strip(), DESCRIPTION)
    parser.add_argument("what", metavar="WHAT", nargs="?", help="layer, flowar, a preset or a model")
    for name in [name for name in OPTIONS if name in used]:
        parser.add_argument(f"--{name.replace('_', '-')}", **OPTIONS[name])
    add_option_flags(parser, [name for name in SAMPLING if name in used], SAMPLING)
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments. Raises InputError for unknown actions, options that mean nothing there, values out of range."""
    action, *rest = argv or ["--help"]
    if action in ("-h", "--help"):
        parser_of("").parse([action])
    if action not in ACTIONS:
        raise InputError(f"unknown action {action!r}; {did_you_mean(action, ACTIONS)}")
    reader = parser_of(action)
    check_meaning(action, rest, {option.dest for option in reader._actions})
    args = reader.parse(split_interval(rest))
    args.action = action
    if action == "digest" and args.model is not None:
        if args.what is not None:
            raise InputError(f"--model is {args.model!r}, but {args.what!r} is given too; expected one of both.")
        args.what = args.model
    if action == "verify" and args.suite and (others := [word for word in rest if word != "--suite"]):
        raise InputError(f"--suite verifies everything; leave {' '.join(others)!r} out, or --suite.")
    if args.what is not None and action != "scale":
        check_sizes(args)
    for name, least in LEAST.items():
        value = getattr(args, name, None)
        if value is not None and value < least:
            raise InputError(f"--{name.replace('_', '-')} is {value}; expected {least} or more.")
    return args


def check_meaning(action: str, argv: list[str], used: set[str]) -> None:
    """InputError for an option that other actions have."""
    for word in argv:
        name = word.partition("=")[0].removeprefix("--").replace("-", "_")
        if word.startswith("--") and name in {*OPTIONS, *SAMPLING} - used:
            options = ", ".join(f"--{each.replace('_', '-')}" for each in sorted(used - {"what", "help"}))
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning for `circuit {action}`; its options are {options}."
            )


def check_sizes(args: argparse.Namespace) -> None:
    """InputError for a size that WHAT has not: a trained model has no --width."""
    kind = kind_of(args.what)
    for name in {name for names in SIZES.values() for name in names} - {*SIZES[kind]}:
        if getattr(args, name) is not None:
            options = ", ".join(f"--{each.replace('_', '-')}" for each in SIZES[kind])
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning for `circuit {args.action} {args.what}`; "
                f"the options of its size are {options}."
            )


def split_interval(argv: list[str]) -> list[str]:
    """The arguments with an interval that is written with a comma, 0.1,1, as two."""
    pairs = zip(["", *argv], argv, strict=False)
    return [part for before, each in pairs for part in (each.split(",") if before == "--guidance-interval" else [each])]


def kind_of(what: str) -> str:
    """layer, small (flowar, ...: random weights), preset (flowar-s, fastflowar-b, ...), or model for anything else."""
    from flowgression.circuits.frontend import NETWORKS, published_sizes, small_networks
    from flowgression.circuits.programs import LAYERS

    if what in published_sizes():
        return "preset"
    small = small_networks().get(what)
    drawn_by_scales = small is not None and small.network is NETWORKS["scales"]
    return "layer" if what in LAYERS else "small" if drawn_by_scales else "model"


def size(args: argparse.Namespace, name: str) -> Any:
    """A size as given, or the usual one."""
    value = getattr(args, name)
    return USUAL[name] if value is None else value


def precision(args: argparse.Namespace) -> Any:
    from flowgression.circuits.compile import check_backend
    from flowgression.circuits.lower.precision import Precision

    check_backend(args.backend)
    return Precision(args.bits, args.fraction)


def formats(args: argparse.Namespace, program: Any) -> Any:
    """The Precision of a program: a trained model's values have measured ranges, unless --fraction is given."""
    chosen = precision(args)
    if kind_of(args.what) != "model" or args.fraction is not None:
        return chosen
    from flowgression.circuits.calibrate import measured_precision

    return measured_precision(program, args.bits)


def guidance(args: argparse.Namespace) -> dict[str, Any]:
    """Guidance as keywords of the frontend."""
    chosen = chosen_options(args, {"guidance_scale": 1.0, "guidance_interval": (0.0, 1.0)})
    return chosen | {"guidance_interval": tuple(chosen["guidance_interval"])}


def integers(text: str, flag: str) -> tuple[int, ...]:
    """The numbers of a comma-separated list."""
    try:
        return tuple(int(each) for each in text.split(","))
    except ValueError:
        raise InputError(f"{flag} is {text!r}; expected numbers such as 2,4.") from None


def program(args: argparse.Namespace) -> Any:
    """The program that WHAT and its sizes name."""
    import numpy as np

    from flowgression.circuits.frontend import program_of, published_sizes, read_published, small_networks
    from flowgression.circuits.programs import LAYERS, layer_program

    known = [*LAYERS, *small_networks(), *published_sizes()]
    if args.what is None:
        raise InputError(
            f"{args.action} needs to know WHAT: a layer, flowar, or a trained model. {did_you_mean('', known)}"
        )
    kind = kind_of(args.what)
    steps = args.steps if args.steps is not None else 25 if kind == "preset" else 1
    if kind == "layer":
        return layer_program(args.what, size(args, "n"), size(args, "width"))
    if kind == "model":
        return _trained(args, steps, known)
    if kind == "small":
        width = size(args, "width")
        sizes = {"width": width, "flow_width": width, "decoder_depth": 0}
        sizes |= {
            "scales": integers(size(args, "scales"), "--scales"),
            "times": tuple(np.linspace(0, 1, steps + 1).tolist()),
        }
        return program_of(small_networks()[args.what].with_sizes(**sizes))
    if args.action in ("prove", "digest") and args.cells:
        args.weights_as_inputs = True  # there are no weights
    elif args.action != "count" or not args.weights_as_inputs:
        raise InputError(
            f"{args.what} can only be counted, with --weights-as-inputs, or proved cell by cell, with --cells; "
            "there is no memory that holds it."
        )
    return program_of(read_published(args.what, steps, **guidance(args)))


def _trained(args: argparse.Namespace, steps: int, known: list[str]) -> Any:
    """The program of a trained model: a model's or pipeline's folder, or a name that `sample --model` takes."""
    from flowgression.sampling.folders import CONFIG_NAME, builtin_models, find_folder, read_index

    what = args.what
    if not Path(what).expanduser().is_dir() and "/" not in what and what not in builtin_models():
        raise InputError(
            f"there is no layer, model or folder {what!r}; {did_you_mean(what, [*known, *builtin_models()])}"
        )
    folder = find_folder(what)
    if not (folder / CONFIG_NAME).is_file():
        read_index(folder)  # says what the folder is, where it is no pipeline's
        folder = folder / "transformer"

    from flowgression.circuits.frontend import load_model, program_of, read_model

    model = load_model(folder)
    program = program_of(read_model(model, steps, solver=args.solver, **guidance(args)))
    weights = f"SHA-256 {_weights_digest(model)} of the state dict"
    return replace(program, about=dict(program.about) | {"weights": weights})


def _weights_digest(model: Any) -> str:
    """The SHA-256 of a model's state dict."""
    import torch

    from flowgression.circuits.claim import weights_digest

    state = model.state_dict().items()
    bytes_of = {name: tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8) for name, tensor in state}
    named = {f"{name} {tensor.dtype!s} {tuple(tensor.shape)}": name for name, tensor in state}
    return weights_digest({words: bytes_of[name].numpy() for words, name in named.items()})


def check_output(path: str | None, *suffixes: str, flag: str = "--out") -> str:
    """The file to write; InputError if it is not given, of another kind, or cannot be written: before long work."""
    if path is None or Path(path).suffix not in suffixes:
        raise InputError(f"{flag} is {path!r}; expected a file that ends in {' or '.join(suffixes)}.")
    folder = Path(path).absolute().parent
    while not folder.exists():
        folder = folder.parent
    try:
        if Path(path).is_dir():
            raise IsADirectoryError("it is a folder")
        try_writing(folder)
    except OSError as error:
        raise InputError(f"{flag} is {path!r}, which cannot be written ({error}); take another place.") from error
    return path


def check_folder(path: str | None) -> str:
    """The folder to write into; InputError if it is not given or cannot be written: before long work."""
    if path is None:
        raise InputError("--out is not given; expected a folder for circuit.npz and certificate.json.")
    if Path(path).is_file():
        raise InputError(f"--out is {path!r}, which is a file; expected a folder.")
    check_output(str(Path(path) / "circuit.npz"), ".npz")
    return path


def choice(value: str, known: Mapping[str, str], flag: str) -> str:
    """What is known by this value; InputError for an unknown one."""
    if value not in known:
        raise InputError(f"{flag} is {value!r}; {did_you_mean(value, known)}")
    return known[value]


def digest_command(args: argparse.Namespace) -> str:
    """The command that prints the digest of what `prove` was asked to prove."""
    reader, kept = parser_of("digest"), []
    for name in sorted({*ACTIONS["digest"], *SIZES[kind_of(args.what)]} - {"model"}):
        value, flag = getattr(args, name), f"--{name.replace('_', '-')}"
        if value != reader.get_default(name):
            words = [] if value is True else value if isinstance(value, list) else [value]
            kept += [flag, *(shlex.quote(str(word)) for word in words)]
    return " ".join(["flowgression circuit digest", shlex.quote(args.what), *kept])
