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

FORMAT = {"bits", "fraction", "backend"}
BUILDING = FORMAT | {"weights_as_inputs", "memory"}
ACTIONS = {
    "compile": BUILDING | {"out"},
    "verify": BUILDING | {"samples", "faults"},
    "scale": FORMAT | {"width", "sides", "plot", "log_bits", "measured"},
    "count": FORMAT | {"weights_as_inputs"},
    "prove": BUILDING | {"out", "cells", "text"},
    "digest": FORMAT | {"weights_as_inputs", "cells", "model"},
    "draw": BUILDING | {"out"},
    "export": BUILDING | {"out", "format"},
}
"""The options that each action reads."""
FLAGS = ("--cells", "--text")  # WHAT may follow them
INTERVAL = "--guidance-interval"
GUIDANCE = {"guidance_scale", "guidance_interval"}
GRID = {"solver": "taylor of a HOFAR, euler of others", "guidance_scale": "1, none", "guidance_interval": "0 1"}
"""The sampling options that become part of a circuit, and what they are where they are not given."""
SIZES = {
    "layer": {"n", "width"},
    "small": {"scales", "width", "steps"},
    "model": {"steps", "solver"} | GUIDANCE,
    "preset": {"steps"} | GUIDANCE,
}
"""The options that give the size of each kind of WHAT."""


def parser() -> CommandParser:
    parser = CommandParser("circuit", DESCRIPTION)
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("what", metavar="WHAT", nargs="?", default=None, help="layer, flowar, a preset or a model")
    parser.add_argument("--model", default=None, help="WHAT of digest")
    parser.add_argument("--n", type=int, default=2, help="side of a layer's map (2)")
    parser.add_argument("--width", type=int, default=2, help="width of a layer, or of both parts of flowar (2)")
    parser.add_argument("--scales", default="2,4", help="sides of flowar's scales (2,4)")
    parser.add_argument("--steps", type=int, default=None, help="steps (per scale) of the solver (1; presets 25)")
    add_option_flags(parser, list(GRID), GRID)
    parser.add_argument("--sides", default=None, help="n of scale (layers 2,3,4,5,6; flowar 4,6,8)")
    parser.add_argument("--log-bits", type=float, default=None, help="scale with p = this times log2 n")
    parser.add_argument("--measured", action="store_true", help="scale with formats by measured ranges")
    parser.add_argument("--bits", type=int, default=8, help="p, bits of a number, 4 to 24 (8)")
    parser.add_argument("--fraction", type=int, default=None, help="f, fraction bits (p - 4; models: measured)")
    parser.add_argument("--backend", default="table", help="functions of one number: table or crt (table)")
    parser.add_argument("--weights-as-inputs", action="store_true", help="one circuit for all weights")
    parser.add_argument("--samples", type=int, default=1024, help="random inputs of verify (1024)")
    parser.add_argument("--faults", type=int, default=50, help="faults that verify injects (50)")
    parser.add_argument("--suite", action="store_true", help="verify all claims at full size")
    parser.add_argument("--cells", action="store_true", help="prove the distinct cells alone")
    parser.add_argument("--text", action="store_true", help="prove: also as plain text, for the checker of proofs/")
    parser.add_argument("--format", default="verilog", help="of export: verilog, opb or blif (verilog)")
    parser.add_argument("--out", default=None, metavar="FILE", help="file to write")
    parser.add_argument("--plot", default=None, help="plot of scale: .svg, .png or .pdf")
    parser.add_argument("--memory", type=float, default=None, help="GiB that building may use (what is free)")
    return parser


def parse(argv: list[str]) -> argparse.Namespace:
    """The arguments. Raises InputError for unknown actions, options that mean nothing there, values out of range."""
    reader = parser()
    args = reader.parse(split_interval([a for a in argv if a not in FLAGS] + [a for a in FLAGS if a in argv]))
    if args.action not in ACTIONS:
        raise InputError(f"unknown action {args.action!r}; {did_you_mean(args.action, ACTIONS)}")
    if args.action == "digest" and args.model is not None:
        if args.what is not None:
            raise InputError(f"--model is {args.model!r}, but {args.what!r} is given too; expected one of both.")
        args.what = args.model
    sized = args.what is not None and args.action != "scale"
    used = ACTIONS[args.action] | (SIZES[kind_of(args.what)] if sized else set())
    if args.action == "verify":
        used = {"suite"} if args.suite else used
        if args.suite and args.what is not None:
            raise InputError(f"--suite verifies everything; leave {args.what!r} out, or --suite.")
    for name, value in vars(args).items():
        if name not in used | {"action", "what"} and value != reader.get_default(name):
            options = [f"--{each.replace('_', '-')}" for each in sorted(used)]
            what = f" {args.what}" if args.what else ""
            raise InputError(
                f"--{name.replace('_', '-')} has no meaning for `circuit {args.action}{what}`; "
                f"its options are {', '.join(options)}."
            )
    for name, least in (("steps", 1), ("log_bits", 1), ("samples", 1), ("faults", 0), ("memory", 0)):
        value = getattr(args, name)
        if value is not None and value < least:
            raise InputError(f"--{name} is {value}; expected {least} or more.")
    return args


def split_interval(argv: list[str]) -> list[str]:
    """The arguments with an interval that is written with a comma, 0.1,1, as two."""
    pairs = zip(["", *argv], argv, strict=False)
    return [part for before, each in pairs for part in (each.split(",") if before == INTERVAL else [each])]


def kind_of(what: str) -> str:
    """layer, small (flowar, ...: random weights), preset (flowar-s, fastflowar-b, ...), or model for anything else."""
    from flowgression.circuits.frontend import NETWORKS, published_sizes, small_networks
    from flowgression.circuits.programs import LAYERS

    if what in published_sizes():
        return "preset"
    small = small_networks().get(what)
    drawn_by_scales = small is not None and small.network is NETWORKS["scales"]
    return "layer" if what in LAYERS else "small" if drawn_by_scales else "model"


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
        return layer_program(args.what, args.n, args.width)
    if kind == "model":
        return _trained(args, steps, known)
    if kind == "small":
        sizes = {"width": args.width, "flow_width": args.width, "decoder_depth": 0}
        sizes |= {"scales": integers(args.scales, "--scales"), "times": tuple(np.linspace(0, 1, steps + 1).tolist())}
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
    defaults, kept = parser(), []
    for name in sorted(ACTIONS["digest"] | SIZES[kind_of(args.what)]):
        value, flag = getattr(args, name), f"--{name.replace('_', '-')}"
        if value != defaults.get_default(name):
            words = [] if value is True else value if isinstance(value, list) else [value]
            kept += [flag, *(shlex.quote(str(word)) for word in words)]
    return " ".join(["flowgression circuit digest", shlex.quote(args.what), *kept])
