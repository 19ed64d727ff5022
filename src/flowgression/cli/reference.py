"""`flowgression reference`: statistics of a set of images, to compare samples with again and again."""

import sys
from pathlib import Path

from flowgression.cli._features import (
    SOURCES,
    add_feature_arguments,
    check_feature_arguments,
    feature_progress,
)
from flowgression.cli._outputs import check_folder, readable_size
from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError
from flowgression.text import say

SUMMARY = "store the statistics of images, as a reference for evaluate"

DESCRIPTION = f"""Store the statistics of images. IMAGES is one of

{SOURCES}

--out X.safetensors holds mean and covariance of the features (float64), those of every class, the features of some
images for KID, precision and recall, and the extractor's name. --out X.npz holds mu and sigma only, as the
evaluator of guided-diffusion and others read them."""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("reference", DESCRIPTION)
    parser.add_argument("images", metavar="IMAGES")
    parser.add_argument("--out", required=True, metavar="PATH", help="X.safetensors or X.npz")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (auto)")
    add_feature_arguments(parser)
    parser.add_num_threads()
    args = parser.parse(argv)
    out = Path(args.out)
    if out.suffix not in (".safetensors", ".npz"):
        raise InputError(f"--out {out} must end with .safetensors or .npz")
    check_feature_arguments(args)
    check_folder(out.parent)
    from flowgression.devices import pick_device
    from flowgression.evaluation.features.choice import choose_features, warning_about
    from flowgression.evaluation.features.registry import load_extractor
    from flowgression.evaluation.images import open_image_set
    from flowgression.evaluation.statistics import collect
    from flowgression.evaluation.storage import save_statistics

    device = pick_device(args.device)
    images = open_image_set(args.images, args.image_size)
    extractor = load_extractor(args.features or choose_features(images), args.features_weights, device)
    if text := warning_about(extractor.info.name, images):
        say(text, file=sys.stderr)
    with feature_progress() as progress:
        statistics = collect(
            images,
            extractor,
            batch_size=args.feature_batch_size,
            keep=args.keep,
            seed=args.feature_seed,
            num_groups=1,
            progress=lambda done: progress(images, done),
        )
    save_statistics(statistics, out)
    say(f"wrote {out}: {len(images)} images, {statistics.num_features} features of {extractor.info.name} "
          f"({extractor.info.fingerprint}), {readable_size(out.stat().st_size)}")  # fmt: skip
    return 0
