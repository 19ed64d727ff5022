"""`flowgression criterion`: can polynomials stand in for exp in a FlowAR model, to which error, and is it worth it?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from flowgression.cli._options import add_option_flags, chosen_options
from flowgression.cli._parser import CommandParser
from flowgression.text import say
from flowgression.theory.defaults import MEASURED

if TYPE_CHECKING:
    from flowgression.theory.criterion import CriterionReport, LayerReport

SUMMARY = "say where low-rank attention could replace that of a FlowAR model"

DESCRIPTION = """Measure, layer by layer, what decides whether attention of low rank can replace that of a FlowAR model
at this size: the largest entries R of queries, keys and values and the largest logits B, on images while they are
drawn (and with --data on images that are read as well); degree and rank of the polynomial that a target error needs,
its certificate and its measured error, its state against the key-value cache, and the side from which it takes fewer
multiplications. N is the number of tokens that a query of the last scale sees. The verdict informs; exit status 0.

  flowgression criterion --model flowar-mnist --plot criterion.png
  flowgression criterion --model flowar-mnist-bounded --target-error 0.01 --data mnist
  flowgression criterion --model flowar:fast-S --json criterion.json"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("criterion", DESCRIPTION)
    parser.add_argument("--model", required=True, help="built-in name, folder, hub name, or flowar:SIZE (untrained)")
    parser.add_argument("--data", help="read images as well: mnist, images, latents or hf:NAME, or random")
    parser.add_argument("--split", default="test", help="part of the data (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=16, help="images drawn, and read (default: %(default)s)")
    add_option_flags(parser, list(MEASURED), MEASURED)
    parser.add_argument(
        "--target-error", type=float, help="error wanted of an entry of an attention's output (default: 1/N, per layer)"
    )
    parser.add_argument("--per-head", action="store_true", help="one row per head instead of per layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the bounds here (.png, .svg, .pdf)")
    parser.add_seed("of images, times and noise")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_num_threads()
    args = parser.parse(argv)
    if args.num_images < 1:
        parser.error(f"--num-images is {args.num_images}; expected one or more")
    if args.plot and args.plot.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {args.plot} must end in .png, .svg or .pdf")
    from flowgression.cli._outputs import check_folder
    from flowgression.cli._scales import image_batches, load_model
    from flowgression.files import atomic_write
    from flowgression.theory.criterion import measure_criterion

    for path in filter(None, (args.json, args.plot)):
        check_folder(path.parent)
    model, pipeline = load_model(args.model, args.device)
    batches = image_batches(pipeline, args.data, args.split, args.num_images, args.seed) if args.data else ()
    options = chosen_options(args, MEASURED)
    report = measure_criterion(
        model, batches, num_images=args.num_images, target_error=args.target_error, seed=args.seed, **options
    )
    title = f"{args.model}, {report.num_images} images drawn"
    if args.data:
        title += f" and {report.num_read} {'latents of noise' if args.data == 'random' else f'of {args.data}'} read"
    show(report, title, args.per_head)
    if args.json:
        facts = {"model": args.model, "data": args.data, "seed": args.seed, **options}
        with atomic_write(args.json, "w") as file:
            json.dump({**facts, **report.to_dict()}, file, indent=2, allow_nan=False)
    if args.plot:
        from flowgression.theory.criterion_plot import plot_criterion

        plot_criterion(report, args.plot, title)
        say(f"plot: {args.plot}")
    return 0


def show(report: "CriterionReport", title: str, per_head: bool) -> None:
    """Print two tables, what was measured and what low rank costs, and the verdicts."""
    from rich.table import Table

    from flowgression.terminal import Terminal

    console = Terminal()
    if console.width < 150:  # a file or a narrow terminal gets whole rows rather than broken words
        console = Terminal(width=150)
    bounds = Table(title=f"bounded entries: {title}", title_justify="left")
    for name in (
        "layer",
        "R_q",
        "R_k",
        "R_v",
        "B, largest |logit|",
        "by lengths",
        "keys centred",
        "interval",
        "worth it to",
    ):
        bounds.add_column(name, justify="left" if name == "layer" else "right")
    for layer in report.layers:
        for head in range(len(layer.bound)) if per_head else [None]:
            bounds.add_row(*_bounds_row(layer, head))
    console.print(bounds)
    costs = Table(title="low rank", title_justify="left")
    for name in (
        "layer",
        "N",
        "d",
        "target",
        "degree",
        "rank",
        "certificate",
        "rounding",
        "error",
        "state / cache",
        "from side",
        "worth it",
    ):
        costs.add_column(name, justify="left" if name == "layer" else "right", no_wrap=name == "layer")
    for layer in report.layers:
        costs.add_row(*_costs_row(layer))
    console.print(costs)
    console.print(
        "interval!: no input can leave it.  worth it to: the largest B at which low rank is worth it at the error."
    )
    for layer in report.layers:
        console.print(f"{layer.layer}: {layer.verdict}", highlight=False, soft_wrap=True)
    console.print(report.verdict, highlight=False, soft_wrap=True)


def _bounds_row(layer: "LayerReport", head: int | None) -> list[str]:
    def largest(values: list[float]) -> str:
        return f"{max(values) if head is None else values[head]:.3g}"

    name = layer.layer if head is None else f"{layer.layer} head {head}"
    entries = (layer.largest_query, layer.largest_key, layer.largest_value)
    return [
        *(name, *(f"{each:.3g}" for each in entries)),
        *(largest(layer.bound), largest(layer.cauchy_schwarz), largest(layer.centred)),
        *(f"{layer.interval:.3g}{'!' * layer.guaranteed}", f"{layer.paying_bound:.3g}"),
    ]


def _costs_row(layer: "LayerReport") -> list[str]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2g}"

    def count(value: int | float | None) -> str:
        return "-" if value is None else f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"

    memory = "-" if layer.state_numbers is None else f"{count(layer.state_numbers)} / {count(layer.cache_numbers)}"
    return [
        *(layer.layer, count(layer.tokens), str(layer.head_width), number(layer.target_error)),
        *(count(layer.degree), count(layer.rank)),
        *(number(layer.certificate), number(layer.rounding), number(layer.error), memory),
        *(count(layer.crossover_side), "yes" if layer.pays else "no"),
    ]
