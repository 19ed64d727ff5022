"""`flowgression sample`: images of a trained model, as a grid, single files, an npz or a GIF of their making."""

import argparse
import ast
import math
import sys
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.cli._device import DTYPES
from flowgression.cli._examples import by_example
from flowgression.cli._given import add_given_arguments, check_given, frame_count, given_call, interpolate
from flowgression.cli._labels import MOST_DEFAULT_IMAGES, ONE_CLASS_IMAGES, image_labels
from flowgression.cli._options import add_option_flags
from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.cli._parts import WRONG_INPUT, PartsError, sample_in_parts
from flowgression.cli._processes import Processes
from flowgression.errors import InputError, did_you_mean
from flowgression.registry import family_of
from flowgression.sampling.folders import weights_of_run
from flowgression.sampling.options import all_options, describe, names_of, owner_of
from flowgression.text import say

if TYPE_CHECKING:
    import numpy as np

    from flowgression.sampling.batches import Batch

SUMMARY = "draw images from a built-in or trained model"

DESCRIPTION = """Draw images from a model. The ending of --out says what is written:
  X.png   one grid; a row for each class if the classes have equally many images
  X.gif   the same grid, from the noise to the images
  X.npz   arr_0 uint8 [N,H,W,C] and labels [N], as evaluation tools read it
  DIR/    a PNG for each image
The last two are made in parts that are kept: the same command resumes after a kill, also on another number of
processes (torchrun --nproc-per-node 8 --no-python flowgression sample ...)."""

ENDINGS = (".png", ".gif", ".npz")
GIF_FRAMES = 60
VISIBLE = 64  # small images are enlarged in grids until their sides have so many pixels


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("sample", DESCRIPTION)
    add_sampling_arguments(parser, default_model="arflow-mnist")
    add = parser.add_argument
    add(
        "--examples",
        nargs="+",
        metavar="PATH",
        help="ARFlow: image files or folders; draw more like these, without a label unless --class-labels is given. "
        "CLASS=FILE, or folders and files named by class, say what each shows; all classes are then drawn alike",
    )
    add_given_arguments(parser)
    add("--show-scales", action="store_true", help="FlowAR: X.png has a row for each image, from coarse to fine")
    add("--out", default="samples.png", metavar="PATH", help="X.png, X.gif, X.npz or a folder (samples.png)")
    add("--scale", type=int, metavar="K", help=f"enlarge the pixels of grids (until images have {VISIBLE} pixels)")
    return parser


def add_sampling_arguments(parser: CommandParser, default_model: str | None) -> None:
    """The flags that say which images a model makes and how."""
    add = parser.add_argument
    shown = f" ({default_model})" if default_model else ""
    add("--model", default=default_model, help=f"built-in name, folder, or owner/name on the hub{shown}")
    add(
        "--class-labels",
        nargs="+",
        metavar="LABEL",
        help="class ids, names or ranges such as 3 seven 0-9; they take turns (all classes)",
    )
    add(
        "--num-images",
        type=int,
        metavar="N",
        help=f"(one per label, at most {MOST_DEFAULT_IMAGES} if none is given; {ONE_CLASS_IMAGES} of one class)",
    )
    add(
        "--label-policy",
        default="balanced",
        metavar="POLICY",
        help="balanced: the classes take turns; random: drawn by the seed; or a file with a class for each image: "
        "lines of a text, .npy, or labels of an .npz (balanced)",
    )
    add_option_flags(parser, list(all_options()))
    parser.add_seed("image i depends on the seed and i alone")
    add("--batch-size", type=int, default=64, metavar="B", help="images made at once (64)")
    add("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    add("--dtype", default="float32", choices=DTYPES, help="precision of the network (float32)")
    add(
        "--tf32",
        action=argparse.BooleanOptionalAction,
        default=True,
        help="on CUDA, matrix products of float32 on tensor cores, with 10 bits of their 23 (on)",
    )
    add("--compile", action="store_true", help="torch.compile: for many images; the first batch takes a minute or so")
    parser.add_num_threads()


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    here = Processes.from_environment()
    try:
        return draw(make_parser().parse(argv), here)
    except PartsError as error:
        say(f"flowgression sample: {error}", file=sys.stderr)
        return error.status
    except InputError:
        if here.is_local_main:
            raise
        return WRONG_INPUT  # the first process of this machine says it


def draw(args: argparse.Namespace, here: Processes) -> int:
    """Make the images and write them. Returns the exit status."""
    out = Path(args.out)
    kind = output_kind(args.out)
    check_folder(out if kind == "folder" else out.parent)
    for name in ("num_images", "batch_size", "scale"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {value}.")
    check_given(args, kind)
    if here.count > 1 and kind in ("png", "gif"):
        raise InputError(f"--out {out} is one picture, which one process draws; give X.npz or a folder to several.")
    if here.count > 1 and args.device in ("auto", "cuda"):
        args.device = own_device(args.device, here)
    pipe = load(args)
    from flowgression.sampling.batches import sample_batches, sampling_facts

    if args.show_scales:
        check_scales_shown(pipe, kind)
    call = call_arguments(pipe, args)
    facts = sampling_facts(pipe, call, model=args.model, seed=args.seed, batch_size=args.batch_size)
    names = dict(enumerate(pipe.class_names))
    if args.examples:
        labels, further = by_example(pipe, args)
        call |= further
        facts |= {"examples": args.examples, "examples_checksum": zlib.crc32(call["examples"].numpy().tobytes())}
        names = {**names, pipe.transformer.config.num_classes: "like the examples"}
    elif args.image or args.vary:
        labels, further, more = given_call(pipe, args)
        call, facts = call | further, facts | more
        names = {**names, pipe.transformer.config.num_classes: "no class"}
    elif args.interpolate:
        labels = [pipe.classes.id_of(args.interpolate[0])] * frame_count(args)
    else:
        labels = image_labels(pipe, args.class_labels, args.num_images, args.label_policy, args.seed)
    start = time.perf_counter()
    written: str | None
    if args.interpolate:
        written = interpolate(pipe, args, call, out)
    elif kind in ("folder", "npz"):
        written = sample_in_parts(pipe, labels, call, out, facts, names, here)
    else:
        frames = GIF_FRAMES if kind == "gif" or args.show_scales else 0
        batches = sample_batches(pipe, labels, call, seed=args.seed, batch_size=args.batch_size, frames=frames)
        pictures = write_scales if args.show_scales else write_picture
        written = pictures(list(checked(batches)), out, names, args.scale)
    seconds = time.perf_counter() - start
    if here.is_main:
        say(f"wrote {written}")
        if weights := weights_of_run(Path(args.model).expanduser()):
            say(f"{args.model}: {weights}")
        say(
            f"{len(labels)} image{'s' * (len(labels) != 1)} by {args.model} ({describe(facts)}, seed {args.seed}) "
            f"in {seconds:.1f} s, {len(labels) / seconds:.2f} images/s on {pipe.device}"
        )
    return 0


def own_device(name: str, here: Processes) -> str:
    """The device of this process, where `name` is auto or cuda: the GPU of its number, if there are any."""
    import torch

    return f"cuda:{here.local_index}" if name == "cuda" or torch.cuda.is_available() else name


def output_kind(out: str) -> str:
    """ "png", "gif" or "npz" by the ending of a path, "folder" for a path without one.

    Raises:
        InputError: another ending.
    """
    path = Path(out)
    if out.endswith("/") or path.is_dir() or not path.suffix:
        return "folder"
    if path.suffix.lower() not in ENDINGS:
        raise InputError(
            f"--out {out}: unknown ending {path.suffix!r}: {did_you_mean(path.suffix, ENDINGS)} "
            "A folder of single PNGs ends with a slash"
        )
    return path.suffix.lower().removeprefix(".")


def load(args: argparse.Namespace) -> Any:
    """The pipeline, in evaluation mode on the asked device."""
    from diffusers.utils import logging

    from flowgression.cli._device import pick_dtype, set_tf32
    from flowgression.devices import pick_device
    from flowgression.flow.solvers import get_solver
    from flowgression.sampling.loading import load_pipeline

    device, dtype = pick_device(args.device), pick_dtype(args.dtype)
    set_tf32(device, args.tf32)
    if args.solver is not None:
        get_solver(args.solver)
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    pipe = load_pipeline(args.model).to(device, dtype)
    return pipe.compile() if args.compile else pipe


def call_arguments(pipe: Any, args: argparse.Namespace) -> dict[str, Any]:
    """The keywords for the pipeline's call: those given on the command line, the rest is left to its defaults.

    Raises:
        InputError: an argument that this kind of pipeline does not have, or an option that is not NAME=VALUE.
    """
    given = {name: getattr(args, name, None) for name in all_options()}
    if given["solver_options"]:
        given["solver_options"] = dict(read_option(entry) for entry in given["solver_options"])
    call = {name: value for name, value in given.items() if value is not None}
    for name in call:
        if name not in names_of(pipe.options_class):
            raise InputError(
                f"a {type(pipe).__name__} has no argument {name}, which is of {owner_of(name)}; "
                f"leave --{name.replace('_', '-')} out."
            )
    return {name: tuple(value) if isinstance(value, list) else value for name, value in call.items()}


def read_option(entry: str) -> tuple[str, Any]:
    """ "last_step=None" -> ("last_step", None); values that are no Python literal are strings."""
    name, equals, value = entry.partition("=")
    if not (name and equals):
        raise InputError(f"--solver-option {entry!r} must be NAME=VALUE, such as diffusion=linear.")
    try:
        return name.replace("-", "_"), ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return name.replace("-", "_"), value


def checked(batches: "Iterator[Batch]") -> "Iterator[Batch]":
    """The batches; InputError if one is not finite: the precision or the guidance asked for is beyond this model."""
    try:
        yield from batches
    except FloatingPointError as error:
        raise InputError(str(error)) from error


def write_picture(batches: "Sequence[Batch]", out: Path, names: dict[int, str], scale: int | None) -> str:
    """Write all images as one grid, or as the film of its making. Returns what was written."""
    import numpy as np

    from flowgression.sampling.images import save_gif, save_png

    labels = [label for batch in batches for label in batch.labels]
    if out.suffix.lower() == ".png":
        save_png(arrange(np.concatenate([batch.images for batch in batches]), labels, names, scale), out)
        return f"{out}: a grid"
    frames = [np.concatenate(parts) for parts in zip(*(batch.frames for batch in batches), strict=True)]
    save_gif([arrange(frame, labels, names, scale) for frame in frames], out)
    return f"{out}: {len(frames)} frames"


def check_scales_shown(pipe: Any, kind: str) -> None:
    """InputError unless the model draws scale by scale and the output is one picture."""
    if not family_of(pipe.transformer).draws_scales:
        raise InputError(
            f"--show-scales is for models that draw scale by scale (FlowAR), not for {type(pipe.transformer).__name__}."
        )
    if kind != "png":
        raise InputError("--show-scales makes one picture: let --out end with .png; a .gif shows the scales in turn.")


def write_scales(batches: "Sequence[Batch]", out: Path, names: dict[int, str], scale: int | None) -> str:
    """Write a picture with a row for each image: its maps from the coarsest to the result. Returns what was written."""
    import numpy as np

    from flowgression.sampling.images import make_grid, save_png

    maps = np.concatenate([np.stack(batch.frames, axis=1) for batch in batches])  # [N,K,H,W,C]
    captions = [names.get(label, str(label)) for batch in batches for label in batch.labels]
    scale = scale or math.ceil(VISIBLE / min(maps.shape[2:4]))
    save_png(make_grid(maps.reshape(-1, *maps.shape[2:]), maps.shape[1], scale=scale, row_names=captions), out)
    return f"{out}: {len(maps)} images at {maps.shape[1]} scales"


def arrange(images: "np.ndarray", labels: Sequence[int], names: dict[int, str], scale: int | None) -> Any:
    """One picture of all images: captioned rows of one class where possible, else about a square. One image: itself."""
    from flowgression.sampling.images import class_rows, make_grid

    if len(images) == 1:
        return make_grid(images, 1, scale=scale or 1)
    scale = scale or math.ceil(VISIBLE / min(images.shape[1:3]))
    rows = class_rows(labels)
    if rows is None or len(images) == rows[1]:
        return make_grid(images, math.ceil(math.sqrt(len(images))), scale=scale)
    order, columns = rows
    captions = [names.get(labels[index], str(labels[index])) for index in order[::columns]]
    return make_grid(images[order], columns, scale=scale, row_names=captions)
