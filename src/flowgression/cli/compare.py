"""`flowgression compare`: several models judged against the same real images, in one table and one picture."""

import argparse
from copy import copy
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.cli._features import SOURCES, add_feature_arguments, check_feature_arguments, feature_progress
from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.cli.evaluate import DEFAULT_IMAGES, check_counts, judge, sample_model
from flowgression.cli.sample import add_sampling_arguments
from flowgression.errors import InputError
from flowgression.text import say

if TYPE_CHECKING:
    from flowgression.evaluation.images import ArrayImages

SUMMARY = "several models against the same real images: one table with intervals, one picture"
COLUMNS = 12  # samples of each model in the picture

DESCRIPTION = f"""Draw equally many samples of each model, of the same seeds and labels, and compare all with one
reference:

{SOURCES}
  X.safetensors        statistics by `flowgression reference`

Prints one table and writes one picture, a row of samples for each model. Intervals are 95 % bootstrap intervals."""


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("compare", DESCRIPTION)
    add = parser.add_argument
    add(
        "models",
        nargs="+",
        metavar="MODEL",
        help="built-in names, folders, runs, or owner/name on the hub; at least two",
    )
    add("--reference", metavar="Y", required=True, help="real images or their statistics")
    add("--out", metavar="FILE.png", default="compare.png", help="picture of the samples (compare.png)")
    add("--json", metavar="PATH", help="write all reports there, by model")
    add("--bootstrap", type=int, default=200, metavar="R", help="resamplings for the intervals; 0 for none (200)")
    add_feature_arguments(parser)
    add_sampling_arguments(parser, default_model=None)
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    args = make_parser().parse(argv)
    check_arguments(args)
    from flowgression.devices import pick_device
    from flowgression.evaluation.report import print_reports, save_json
    from flowgression.evaluation.run import extractor_for, open_reference
    from flowgression.sampling.images import save_png

    reference: Any = open_reference(args.reference, args.image_size)
    extractor = extractor_for(reference, args.features, pick_device(args.device), weights=args.features_weights)
    reports, drawn = {}, []
    with feature_progress() as progress:
        for model in args.models:
            images, cost = sample_model(model_arguments(args, model))
            found = judge(args, images, reference, features=extractor, cost=cost, progress=progress)
            reference = found.reference  # its features are not computed again
            reports[model] = found.report
            drawn.append(images)
    print_reports(reports)
    if args.json:
        save_json(reports, args.json)
    save_png(samples_picture(drawn, args.models), Path(args.out))
    say(f"wrote {args.out}: {COLUMNS} samples of each model at most, of the same seeds and labels")
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Everything that can be wrong before a network is loaded; raises InputError."""
    if args.model:
        raise InputError("compare takes its models without a flag: flowgression compare A B --reference Y")
    if len(args.models) < 2 or len(set(args.models)) < len(args.models):
        raise InputError(f"compare takes two or more different models; got {' '.join(args.models)}.")
    check_counts(args)
    check_feature_arguments(args)
    for path in (args.json, args.out):
        if path:
            check_folder(Path(path).parent)


def model_arguments(args: argparse.Namespace, model: str) -> argparse.Namespace:
    """The arguments of `flowgression evaluate --model` for one of the models."""
    found = copy(args)
    found.model, found.save_samples = model, None
    found.num_images = args.num_images or DEFAULT_IMAGES
    return found


def samples_picture(drawn: "list[ArrayImages]", names: list[str]) -> Any:
    """A row of samples for each model, of the same size, grey ones as RGB where others have colours."""
    import numpy as np

    from flowgression.sampling.images import make_grid, to_pil

    side = max(max(images.images.shape[1:3]) for images in drawn)
    colour = any(images.images.shape[-1] == 3 for images in drawn)
    rows = []
    for images in drawn:
        pictures = [
            to_pil(each).convert("RGB" if colour else "L").resize((side, side)) for each in images.images[:COLUMNS]
        ]
        pictures += [to_pil(np.full((side, side, 3 if colour else 1), 255, np.uint8))] * (COLUMNS - len(pictures))
        rows += [np.asarray(picture).reshape(side, side, -1) for picture in pictures]
    return make_grid(np.stack(rows), COLUMNS, scale=-(-64 // side), row_names=names)
