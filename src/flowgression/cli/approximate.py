"""`flowgression approximate`: the same FlowAR with polynomials in place of exp, and how far its images are off."""

import json
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.cli._options import add_option_flags, chosen_options
from flowgression.cli._parser import CommandParser
from flowgression.text import say
from flowgression.theory.defaults import MEASURED

if TYPE_CHECKING:
    from flowgression.theory.approximation import Approximation, LayerChoice
    from flowgression.theory.comparison import Comparison

SUMMARY = "approximate a given FlowAR by low-rank attention, with bounds on the error"

DESCRIPTION = """Keep the weights of a FlowAR and put polynomials in place of exp in its attentions, so that they take
almost quadratic time (arXiv 2502.16490). Bounds on queries, keys, values and logits are measured while the model draws
images; each layer gets the smallest degree that the error wanted of the whole output allows. Then both models draw the
same images, and their difference is stated three times: a bound that holds for certain (and is loose), a first-order
estimate, and as measured. Errors are largest differences of the output: latents, or pixels in [-1, 1].

  flowgression approximate --model flowar-mnist-bounded --target-error 0.01
  flowgression approximate --model flowar-mnist-bounded --target-error 0.01 --plot both.png --out runs/approximated
  flowgression approximate --model M --degree 4                    # the same degree in all layers instead
  flowgression approximate --model M --certificate 0.01            # a degree for each head, by its own logits"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = _make_parser()
    args = parser.parse(argv)
    if args.num_images < 1:
        parser.error(f"--num-images is {args.num_images}; expected one or more")
    if args.plot and args.plot.suffix != ".png":
        parser.error(f"--plot {args.plot} must end in .png")
    if sum(each is not None for each in (args.target_error, args.degree, args.certificate)) != 1:
        parser.error("give one of --target-error E, --degree G for all layers, and --certificate C for each head")
    from flowgression.cli._outputs import check_folder
    from flowgression.cli._scales import load_model
    from flowgression.files import atomic_write
    from flowgression.theory.approximation import approximate, check_model, check_target
    from flowgression.theory.comparison import compare
    from flowgression.theory.trajectory import starting_points

    check_target(args.target_error, args.bounds, args.certificate)
    for path in filter(None, (args.json, args.plot)):
        check_folder(path.parent)
    model, pipeline = load_model(args.model, args.device)
    check_model(model)
    if args.out is not None:
        check_folder(args.out)
    options = chosen_options(args, MEASURED)
    labels, noise = starting_points(model, args.num_images, args.seed)
    approximation, approximated = approximate(
        model,
        target_error=args.target_error,
        degree=args.degree,
        certificate=args.certificate,
        bounds=args.bounds,
        class_labels=labels,
        noise=noise,
        return_report=True,
        **options,
    )
    comparison = compare(
        model, approximated, approximation, labels, noise, bound=not args.no_bound, repeats=args.repeats, **options
    )
    facts = {"model": args.model, "num_images": args.num_images, "seed": args.seed, "bounds": args.bounds, **options}
    report = _report(approximation, comparison, facts)
    _show(approximation, report, f"{args.model}, {args.num_images} images")
    if args.json:
        with atomic_write(args.json, "w") as file:
            json.dump(report, file, indent=2)
    if args.plot:
        _draw(pipeline, comparison, args.plot)
        say(f"plot: {args.plot}")
    if args.out:
        _save(pipeline, approximated, args.out)
        say(f"written: {args.out}; sample from it with flowgression sample --model {shlex.quote(str(args.out))}")
    return 0


def _make_parser() -> CommandParser:
    parser = CommandParser("approximate", DESCRIPTION)
    add = parser.add_argument
    add("--model", required=True, help="a FlowAR: built-in name, folder, hub name, or flowar:SIZE (untrained)")
    add("--target-error", type=float, metavar="E", help="largest error wanted of the output")
    add("--degree", type=int, metavar="G", help="an even degree for all layers, instead of --target-error")
    add("--certificate", type=float, metavar="C", help="a bound on the error of every call: a degree for each head")
    add(
        "--bounds",
        choices=("measured", "cauchy-schwarz"),
        default="measured",
        help="bound logits by the largest met, or by lengths of queries and keys (default: %(default)s)",
    )
    add("--num-images", type=int, default=10, metavar="N", help="images drawn by both models (default: %(default)s)")
    add_option_flags(parser, list(MEASURED), MEASURED)
    parser.add_seed("of the noise")
    add("--repeats", type=int, default=3, metavar="R", help="timed runs of each model (default: %(default)s)")
    add("--no-bound", action="store_true", help="leave out the bound of the whole output, the slowest part")
    add("--json", type=Path, metavar="FILE", help="write everything here")
    add("--plot", type=Path, metavar="FILE.png", help="draw both models' images, one above the other, here")
    add("--out", type=Path, metavar="DIR", help="save the approximated pipeline here")
    add("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_num_threads()
    return parser


def _report(approximation: "Approximation", comparison: "Comparison", facts: dict[str, Any]) -> dict[str, Any]:
    """Everything, with flat keys first. Largest values over layers; the layer that makes most of the error by name."""
    layers = approximation.layers
    return {
        **facts,
        "target_error": approximation.target_error,
        "degree": max(layer.degree for layer in layers),
        "rank": max(layer.rank for layer in layers),
        "logit_bound": max(layer.logit_bound for layer in layers),
        "value_bound": max(layer.value_bound for layer in layers),
        "certificate": max(layer.certificate for layer in layers),
        "bound": comparison.bound,
        "estimate": approximation.estimate,
        "measured": comparison.measured,
        "time_ratio": comparison.time_ratio,
        "verdict": f"{approximation.verdict}; {comparison.pace}",
        "exact_seconds": comparison.exact_seconds,
        "approximated_seconds": comparison.approximated_seconds,
        "most_error": max(layers, key=lambda layer: layer.share).name,
        "layers": [layer.to_dict() for layer in layers],
    }


def _show(approximation: "Approximation", report: dict[str, Any], title: str) -> None:
    from rich.table import Table

    from flowgression.terminal import Terminal

    console = Terminal()
    if console.width < 120:  # a file or a narrow terminal gets whole rows rather than broken words
        console = Terminal(width=120)
    table = Table(title=title, title_justify="left")
    for name in (
        "layer",
        "R_q",
        "R_k",
        "R_v",
        "B",
        "N",
        "d",
        "degree",
        "rank",
        "certificate",
        "of the error",
        "worth it",
    ):
        table.add_column(name, justify="left" if name == "layer" else "right", no_wrap=name == "layer")
    for layer in approximation.layers:
        bounds = (layer.query_bound, layer.key_bound, layer.value_bound)
        table.add_row(
            *(layer.name, *(f"{each:.3g}" for each in bounds), f"{layer.logit_bound:.3g}{'!' * layer.guaranteed}"),
            *(f"{layer.tokens:,}", str(layer.head_width), _degrees(layer), f"{layer.rank:,}"),
            *(f"{layer.certificate:.2g}", f"{layer.share:.2g}", "yes" if layer.pays else "no"),
        )
    console.print(table)
    console.print("B!: no input can exceed it.  of the error: estimated error of the output by this layer alone.\n")
    for name, meaning in (
        ("bound", "holds for certain, in exact arithmetic or float64, for this noise"),
        ("estimate", "to first order, along the trajectory"),
        ("measured", "largest difference of the outputs"),
    ):
        value = report[name]
        console.print(f"{name:>10}  {'-' if value is None else f'{value:.3g}':>9}   {meaning}", highlight=False)
    seconds = (report["exact_seconds"], report["approximated_seconds"], report["time_ratio"])
    console.print(
        "{:>10}  {:.3g} s exact, {:.3g} s approximated: ratio {:.2f}".format("time", *seconds), highlight=False
    )
    console.print(report["verdict"], highlight=False, soft_wrap=True)


def _degrees(layer: "LayerChoice") -> str:
    """Such as 4, or 2 x5 4 x1 where heads have their own."""
    counts = {degree: layer.degrees.count(degree) for degree in sorted(set(layer.degrees))}
    return " ".join(f"{g} x{n}" for g, n in counts.items()) if len(counts) > 1 else str(layer.degree)


def _draw(pipeline: Any, comparison: "Comparison", path: Path) -> None:
    """A row of the exact model's images, a row of the approximated one's, a row of their differences times 100."""
    import numpy as np

    from flowgression.sampling.images import make_grid, save_png, to_uint8

    rows = [pipeline.to_output(each.float(), "np") for each in (comparison.exact, comparison.approximated)]
    rows.append(np.abs(rows[0] - rows[1]).clip(0, 0.01) * 100)
    images = to_uint8(np.concatenate(rows))
    names = ["exact", "approximated", "100 x difference"]
    scale = max(1, 64 // images.shape[1])
    save_png(make_grid(images, len(rows[0]), scale=scale, row_names=names), path)


def _save(pipeline: Any, approximated: Any, out: Path) -> None:
    from flowgression.sampling.loading import make_pipeline

    id2label, space = pipeline.config.get("id2label"), pipeline.config.get("latent_space")
    make_pipeline(approximated, vae=pipeline.vae, id2label=id2label, latent_space=space).save_pretrained(out)
