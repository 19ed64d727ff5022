"""`flowgression nearest`: samples of a model beside the training images nearest to them."""

import argparse
from pathlib import Path
from typing import Any

from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.cli.sample import add_sampling_arguments, call_arguments, image_labels, load
from flowgression.errors import InputError
from flowgression.text import say

DEFAULT_IMAGES = 64
SUMMARY = "samples beside the training images nearest to them: has a model learned by heart?"

DESCRIPTION = """Draw samples and put each beside the training image that is nearest to it in pixels. One number says
how many are nearer to a training image than all but a twentieth of the training images are to each other: about 0.05
for new images, 1 for copies. Exit status 1 where more are than chance explains."""


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("nearest", DESCRIPTION)
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="the training images: as data.path of `flowgression train`")
    add("--split", default="train", help="part of the data set (train)")
    add("--out", metavar="FILE.png", default="nearest.png", help="picture of the pairs (nearest.png)")
    add_sampling_arguments(parser, default_model=None)
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns 0, or 1 where samples look like copies."""
    args = make_parser().parse(argv)
    if not args.model:
        raise InputError("--model is missing: a built-in name, a folder, or the folder of a run")
    if args.num_images is not None and args.num_images < 1:
        raise InputError(f"--num-images is {args.num_images}; expected one or more")
    from flowgression.evaluation.nearest import EXPECTED, nearest_images
    from flowgression.sampling.images import save_png

    check_folder(Path(args.out).parent)
    samples, training = drawn_and_seen(args)
    found = nearest_images(samples, training)
    save_png(pairs(samples, training[found.indices]), Path(args.out))
    say(
        f"{found.share:.2f} of {len(samples)} samples are nearer to a training image than {found.threshold:.1f} (of "
        f"255), which is where {EXPECTED:.0%} of the {len(training)} training images have their nearest neighbour. "
        f"Samples that were new images would make about {EXPECTED:.2f}."
    )
    verdict = "The samples look like copies" if found.looks_copied else "The samples do not look like copies"
    say(f"{verdict} (nearest pairs first in {args.out}: a sample, and below it its nearest training image).")
    return int(found.looks_copied)


def drawn_and_seen(args: argparse.Namespace) -> tuple[Any, Any]:
    """uint8 [N, H, W, C]: samples of the model, and the training images at their size."""
    from flowgression.data import DataConfig, open_dataset
    from flowgression.evaluation.model import sample_and_measure

    pipe = load(args)
    config = pipe.transformer.config
    if pipe.vae is not None or config.in_channels not in (1, 3):
        raise InputError(f"{args.model} draws latents; `nearest` compares pixels, of models without an autoencoder")
    data = open_dataset(
        DataConfig(args.data, split=args.split, image_size=config.sample_size, channels=config.in_channels)
    )
    training = data.pixels(range(len(data))).permute(0, 2, 3, 1).contiguous().numpy()
    call = call_arguments(pipe, args)
    labels = image_labels(pipe, args.class_labels, args.num_images or DEFAULT_IMAGES, args.label_policy, args.seed)
    drawn, _ = sample_and_measure(pipe, labels, call, model=args.model, seed=args.seed, batch_size=args.batch_size)
    return drawn.images, training


def pairs(samples: Any, nearest: Any) -> Any:
    """A grid: rows of eight samples, each row above that of their nearest training images, nearest pairs first."""
    import numpy as np

    from flowgression.sampling.images import make_grid

    distance = np.square(samples.astype(np.float32) - nearest).mean(axis=(1, 2, 3))
    order = np.argsort(distance, kind="stable")
    rows = []
    for start in range(0, len(order), 8):
        chosen = order[start : start + 8]
        blank = np.full((8 - len(chosen), *samples.shape[1:]), 255, dtype=np.uint8)
        rows += [samples[chosen], blank, nearest[chosen], blank]
    return make_grid(np.concatenate(rows), columns=8, scale=max(1, 64 // samples.shape[1]))
