"""`flowgression evaluate`: FID, KID, Inception Score, precision and recall of samples, or of a model."""

import argparse
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.cli._features import (
    SOURCES,
    add_feature_arguments,
    check_feature_arguments,
    feature_progress,
)
from flowgression.cli._outputs import check_folder
from flowgression.cli._parser import CommandParser
from flowgression.cli.sample import add_sampling_arguments
from flowgression.errors import InputError

if TYPE_CHECKING:
    from flowgression.evaluation.cost import Cost
    from flowgression.evaluation.images import ArrayImages
    from flowgression.evaluation.run import Evaluation

DEFAULT_IMAGES = 1000
SUMMARY = "compare samples, or a model, with real images: FID, KID, precision, recall, cost"

DESCRIPTION = f"""Compare samples with a reference. Each is one of

{SOURCES}
  X.safetensors        statistics by `flowgression reference`; X.npz with mu and sigma (reference only)

--model M instead of --samples makes the images first, with the flags of `flowgression sample`, and adds what they
cost. Intervals are 95 % bootstrap intervals. docs/evaluation.md says what makes the numbers comparable."""


def make_parser() -> CommandParser:
    """The arguments of the command."""
    parser = CommandParser("evaluate", DESCRIPTION)
    add = parser.add_argument
    add("--samples", metavar="X", help="images to judge")
    add("--reference", metavar="Y", required=True, help="real images or their statistics")
    add("--json", metavar="PATH", help="write the report there")
    add("--plot", metavar="PATH", help="draw features and classes: .png, .svg or .pdf")
    add("--bootstrap", type=int, default=200, metavar="R", help="resamplings for the intervals; 0 for none (200)")
    add("--save-samples", metavar="X.npz", help="with --model: keep the images")
    add_feature_arguments(parser)
    add_sampling_arguments(parser, default_model=None)
    return parser


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    args = make_parser().parse(argv)
    check_arguments(args)
    from flowgression.devices import pick_device
    from flowgression.evaluation.plot import save_plot
    from flowgression.evaluation.report import print_table, save_json
    from flowgression.evaluation.run import extractor_for, open_reference

    # Whatever can be wrong with the reference and the extractor is found before the samples are made.
    device = pick_device(args.device)
    reference = open_reference(args.reference, args.image_size)
    extractor = extractor_for(reference, args.features, device, weights=args.features_weights)
    images, cost = sample_model(args) if args.model else (args.samples, None)
    with feature_progress() as progress:
        found = judge(args, images, reference, features=extractor, cost=cost, progress=progress)
    report = found.report
    print_table(report)
    if args.json:
        save_json(report, args.json)
    if args.plot:
        save_plot(report, found.samples, found.reference, args.plot)
    return 0


def check_arguments(args: argparse.Namespace) -> None:
    """Everything that can be wrong before a network is loaded; raises InputError."""
    if bool(args.samples) == bool(args.model):
        raise InputError("give either --samples X, images that are there, or --model M, which makes them first")
    if args.save_samples and not args.model:
        raise InputError("--save-samples keeps the images that --model makes; with --samples there is nothing to save")
    check_counts(args)
    check_feature_arguments(args)
    for path in (args.json, args.plot, args.save_samples):
        if path:
            check_folder(Path(path).parent)
    if args.plot:
        from flowgression.evaluation.plot import check_plot_name

        check_plot_name(Path(args.plot))


def check_counts(args: argparse.Namespace) -> None:
    """How many images and resamplings are asked for; raises InputError."""
    if args.bootstrap < 0:
        raise InputError(f"--bootstrap must be 0 or more, not {args.bootstrap}")
    for name in ("num_images", "batch_size"):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f"--{name.replace('_', '-')} must be at least 1, not {value}")


def judge(args: argparse.Namespace, samples: Any, reference: Any, **known: Any) -> "Evaluation":
    """`evaluation.evaluate` with the options of the command; `known` are arguments that it is given besides."""
    from flowgression.evaluation.run import evaluate

    return evaluate(
        samples,
        reference,
        image_size=args.image_size,
        num_replicates=args.bootstrap,
        batch_size=args.feature_batch_size,
        keep=args.keep,
        seed=args.feature_seed,
        **known,
    )


def sample_model(args: argparse.Namespace) -> "tuple[ArrayImages, Cost]":
    """Make the images of --model and measure what they cost."""
    from flowgression.cli.sample import call_arguments, image_labels, load
    from flowgression.evaluation.model import sample_and_measure
    from flowgression.sampling.batches import CLASS_NAMES
    from flowgression.sampling.images import save_npz

    pipe = load(args)
    call = call_arguments(pipe, args)
    labels = image_labels(pipe, args.class_labels, args.num_images or DEFAULT_IMAGES, args.label_policy, args.seed)
    try:
        images, cost = sample_and_measure(
            pipe, labels, call, model=args.model, seed=args.seed, batch_size=args.batch_size
        )
    except FloatingPointError as error:
        raise InputError(str(error)) from error
    if args.save_samples:
        save_npz(images.images, labels, args.save_samples, {**images.facts, CLASS_NAMES: images.classes.to_list()})
    return images, cost
