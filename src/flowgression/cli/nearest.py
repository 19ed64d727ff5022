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

DESCRIPTION = """Draw samples and put each beside the training image that is nearest to it, in pixels or in --features,
which also find copies that are moved. One number says how many are nearer to a training image than all but a twentieth
of new images are: about 0.05 for new images, 1 for copies. New images are those that the run held out
(data.validation), if at least 20; else training images are compared with each other. Exit status 1 where more are than
chance explains."""
LEAST_HELD_OUT = 20  # of fewer a twentieth says nothing


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("nearest", DESCRIPTION)
    add = parser.add_argument
    add("--data", required=True, metavar="DIR", help="the training images: as data.path of `flowgression train`")
    add("--split", default="train", help="part of the data set (train)")
    add("--out", metavar="FILE.png", default="nearest.png", help="picture of the pairs (nearest.png)")
    add(
        "--features",
        metavar="NAME",
        help="compare features instead of pixels: pictures-1, mnist, mnist-rgb, inception or package.module:attribute",
    )
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
    features = None
    if args.features is not None:
        from flowgression.evaluation.features.registry import load_extractor

        extractor = load_extractor(args.features)
        features = lambda images: extractor(images).features  # noqa: E731
    samples, training, held_out = drawn_and_seen(args)
    found = nearest_images(samples, training, held_out, features)
    save_png(pairs(samples, training[found.indices], found.distances), Path(args.out))
    if held_out is None:
        new = f"which is where {EXPECTED:.0%} of the {len(training)} training images have their nearest neighbour"
    else:
        new = f"which is nearer than all but {EXPECTED:.0%} of the {len(held_out)} held-out images are"
    unit = "of 255" if features is None else f"in {args.features}"
    say(
        f"{found.share:.2f} of {len(samples)} samples are nearer to a training image than {found.threshold:.3g} "
        f"({unit}), {new}. Samples that were new images would make about {EXPECTED:.2f}."
    )
    verdict = "The samples look like copies" if found.looks_copied else "The samples do not look like copies"
    say(f"{verdict} (nearest pairs first in {args.out}: a sample, and below it its nearest training image).")
    return int(found.looks_copied)


def drawn_and_seen(args: argparse.Namespace) -> tuple[Any, Any, Any]:
    """uint8 [N, H, W, C]: samples of the model, the training images at their size, and those held out, or None."""
    from flowgression.evaluation.model import sample_and_measure

    pipe = load(args)
    config = pipe.transformer.config
    if pipe.vae is not None or config.in_channels not in (1, 3):
        raise InputError(f"{args.model} draws latents; `nearest` compares pixels, of models without an autoencoder")
    training, held_out = seen_and_held_out(args, config.sample_size, config.in_channels)
    call = call_arguments(pipe, args)
    labels = image_labels(pipe, args.class_labels, args.num_images or DEFAULT_IMAGES, args.label_policy, args.seed)
    drawn, _ = sample_and_measure(pipe, labels, call, model=args.model, seed=args.seed, batch_size=args.batch_size)
    return drawn.images, training, held_out


def seen_and_held_out(args: argparse.Namespace, size: int, channels: int) -> tuple[Any, Any]:
    """uint8 [*, H, W, C]: all images of --data, or those that the run of --model trained on and those it held out."""
    from flowgression.data import DataConfig, open_dataset
    from flowgression.data.held_out import hold_out

    config = run_config(Path(args.model))
    same = config is not None and config.data.split == args.split
    same = same and Path(config.data.path).expanduser().resolve() == Path(args.data).expanduser().resolve()
    data = open_dataset(
        config.data
        if config is not None and same
        else DataConfig(args.data, split=args.split, image_size=size, channels=channels)
    )
    parts = [data]
    if config is not None and same and config.data.validation:
        parts = list(hold_out(data, config.data.validation, config.seed, least=config.sequence_length))
    images = [part.pixels(range(len(part))).permute(0, 2, 3, 1).contiguous().numpy() for part in parts]
    return images[0], images[1] if len(images) > 1 and len(images[1]) >= LEAST_HELD_OUT else None


def run_config(model: Path) -> Any:
    """The configuration of the run whose folder, or whose pipeline, `model` is; None for any other model."""
    from flowgression.documents import read_yaml
    from flowgression.sampling.folders import RUN_PIPELINE
    from flowgression.training.config import TrainConfig
    from flowgression.training.nested import config_from_dict

    file = (model.parent if model.name == RUN_PIPELINE else model) / "config.yaml"
    return config_from_dict(TrainConfig, read_yaml(file)) if file.is_file() else None


def pairs(samples: Any, nearest: Any, distance: Any) -> Any:
    """A grid: rows of eight samples, each row above that of their nearest training images, nearest pairs first."""
    import numpy as np

    from flowgression.sampling.images import make_grid

    order = np.argsort(distance, kind="stable")
    rows = []
    for start in range(0, len(order), 8):
        chosen = order[start : start + 8]
        blank = np.full((8 - len(chosen), *samples.shape[1:]), 255, dtype=np.uint8)
        rows += [samples[chosen], blank, nearest[chosen], blank]
    return make_grid(np.concatenate(rows), columns=8, scale=max(1, 64 // samples.shape[1]))
