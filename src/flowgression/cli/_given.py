"""Images that samples begin with, and what lies between two samples: flags of `flowgression sample`."""

import argparse
import zlib
from pathlib import Path
from typing import Any

from flowgression.cli._labels import image_labels
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, reading

VARIATIONS, FRAMES = 8, 24


def add_given_arguments(parser: CommandParser) -> None:
    """The flags."""
    add = parser.add_argument
    add(
        "--image",
        metavar="FILE",
        help="begin with this picture instead of noise: image to image; --class-labels say what it becomes",
    )
    add(
        "--strength",
        type=float,
        metavar="S",
        help="above 0 to 1: little keeps much of the picture (0.6, with --mask 1); of FlowAR the share of the scales "
        "that are drawn",
    )
    add("--mask", metavar="FILE", help="inpainting: a picture, white where --image is drawn anew and black where not")
    add("--vary", metavar="FILE", help=f"more pictures like this one, of no class unless one is named ({VARIATIONS})")
    add(
        "--interpolate",
        nargs=2,
        metavar=("A", "B"),
        help="from a picture of class A to one of class B; --out is X.gif, or X.png with all frames",
    )
    add("--frames", type=int, metavar="N", help=f"of --interpolate, both ends among them ({FRAMES})")


def check_given(args: argparse.Namespace, kind: str) -> None:
    """InputError where flags say nothing without others, or cannot be combined."""
    if args.image and args.vary:
        raise InputError("--vary FILE is --image FILE without a class; give one of them.")
    if args.mask and not args.image:
        raise InputError("--mask says what of --image is drawn anew; give --image, too.")
    if args.strength is not None and not (args.image or args.vary):
        raise InputError("--strength is of a picture to begin with; give --image or --vary.")
    if args.frames is not None and not args.interpolate:
        raise InputError("--frames is of --interpolate A B.")
    if args.examples and (args.image or args.vary):
        raise InputError("--examples and a picture to begin with cannot be combined; leave one of them out.")
    if not args.interpolate:
        return
    for name in ("image", "vary", "examples", "class_labels", "num_images", "show_scales"):
        if getattr(args, name):
            raise InputError(f"--interpolate and --{name.replace('_', '-')} cannot be combined; leave one of them out.")
    if kind not in ("gif", "png"):
        raise InputError("--interpolate makes one picture: let --out end with .gif, or .png for all frames.")


def given_call(pipe: Any, args: argparse.Namespace) -> tuple[list[int], dict[str, Any], dict[str, Any]]:
    """Labels, keywords of the pipeline's call, and facts for the record, of --image and --vary.

    Raises:
        InputError: a file that is no picture.
    """
    name = args.image or args.vary
    picture = read_picture("--image" if args.image else "--vary", name)
    call: dict[str, Any] = {"image": picture}
    facts: dict[str, Any] = {"image": name, "image_checksum": zlib.crc32(picture.tobytes())}
    if args.strength is not None:
        call["strength"] = facts["strength"] = args.strength
    if args.mask:
        call["mask_image"] = read_picture("--mask", args.mask)
        facts |= {"mask": args.mask, "mask_checksum": zlib.crc32(call["mask_image"].tobytes())}
    if args.vary and args.class_labels is None:
        labels = [pipe.transformer.config.num_classes] * (args.num_images or VARIATIONS)
    else:
        count = args.num_images or (VARIATIONS if args.vary else None)
        labels = image_labels(pipe, args.class_labels, count, args.label_policy, args.seed)
    return labels, call, facts


def read_picture(flag: str, name: str) -> Any:
    """A file as a PIL image. InputError if it is none."""
    from PIL import Image

    from flowgression.documents import check_regular

    with reading(f"{flag} {name}", "give an image file"), Image.open(check_regular(Path(name))) as opened:
        opened.load()
        return opened.copy()


def interpolate(pipe: Any, args: argparse.Namespace, call: dict[str, Any], out: Path) -> str:
    """Draw and write the frames of --interpolate. Returns what was written."""
    import torch

    from flowgression.sampling.images import save_gif, save_png, to_uint8
    from flowgression.sampling.noise import image_seeds

    seeds = image_seeds(torch.Generator().manual_seed(args.seed), 2)
    ends = [torch.Generator().manual_seed(seed) for seed in seeds]
    pipe.set_progress_bar_config(desc="sampling", leave=False, disable=None)
    first, second = (pipe.classes.id_of(name) for name in args.interpolate)
    found = pipe.interpolate(first, second, num_frames=frame_count(args), generator=ends, output_type="np", **call)
    frames = to_uint8(found.images)
    if out.suffix.lower() == ".png":
        save_png(tiled(frames, args.scale), out)
        return f"{out}: {len(frames)} frames"
    pictures = [tiled(frame[None], args.scale) for frame in frames]
    save_gif([*pictures, *pictures[-2:0:-1]], out, hold=0.0)
    return f"{out}: {len(frames)} frames, there and back"


def frame_count(args: argparse.Namespace) -> int:
    """Frames of --interpolate."""
    return FRAMES if args.frames is None else args.frames


def tiled(frames: Any, scale: int | None) -> Any:
    """One picture of frames in rows of at most eight."""
    import math

    from flowgression.cli.sample import VISIBLE
    from flowgression.sampling.images import make_grid

    return make_grid(frames, columns=8, scale=scale or math.ceil(VISIBLE / min(frames.shape[1:3])))
