"""`flowgression criterion`: does a FlowAR model meet the criterion of almost quadratic attention, and would it pay?"""

import json
from pathlib import Path
from typing import TYPE_CHECKING

from flowgression.cli._parser import CommandParser

if TYPE_CHECKING:
    from flowgression.theory.criterion import CriterionReport, LayerReport

SUMMARY = "check the bounded-entries criterion on a FlowAR model"

DESCRIPTION = """Measure, layer by layer, what decides whether attention of low rank can replace that of a FlowAR model:
the largest logits B against ln N, the width of the heads, degree and rank of the polynomial that a target error needs,
its certificate and its measured error, its state against the key-value cache, and the side from which it takes fewer
multiplications. N is the number of tokens that a query of the last scale sees. The verdict informs; exit status 0.

  flowgression criterion --model flowar-mnist --plot criterion.png
  flowgression criterion --model flowar:fast-S --json criterion.json"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("criterion", DESCRIPTION)
    parser.add_argument("--model", required=True, help="built-in name, folder, hub name, or flowar:SIZE (untrained)")
    parser.add_argument("--data", help="mnist, images, latents or hf:NAME, or random (default: mnist where it fits)")
    parser.add_argument("--split", default="test", help="part of the data (default: %(default)s)")
    parser.add_argument("--num-images", type=int, default=64, help="images read (default: %(default)s)")
    parser.add_argument("--target-error", type=float, help="error wanted, over max v - min v (default: 1/N, per layer)")
    parser.add_argument("--per-head", action="store_true", help="one row per head instead of per layer")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write everything here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the bounds here (.png, .svg, .pdf)")
    parser.add_argument("--seed", type=int, default=0, help="of images, times and noise (default: %(default)s)")
    parser.add_argument("--device", default="auto", help="auto, cpu, cuda or mps (default: %(default)s)")
    parser.add_num_threads()
    args = parser.parse(argv)
    if args.num_images < 1:
        parser.error(f"--num-images is {args.num_images}; expected one or more")
    if args.plot and args.plot.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {args.plot} must end in .png, .svg or .pdf")
    from flowgression.cli._flowar import default_data, image_batches, load_flowar
    from flowgression.cli._outputs import check_folder
    from flowgression.files import atomic_write
    from flowgression.theory.criterion import measure_criterion

    for path in filter(None, (args.json, args.plot)):
        check_folder(path.parent)
    model, pipeline = load_flowar(args.model, args.device)
    data = args.data or default_data(model)
    batches = image_batches(pipeline, data, args.split, args.num_images, args.seed)
    report = measure_criterion(model, batches, target_error=args.target_error, seed=args.seed)
    title = f"{args.model} on {report.num_images} {'latents of noise' if data == 'random' else f'images of {data}'}"
    show(report, title, args.per_head)
    if args.json:
        with atomic_write(args.json, "w") as file:
            json.dump({"model": args.model, "data": data, "seed": args.seed, **report.to_dict()}, file, indent=2)
    if args.plot:
        from flowgression.theory.criterion_plot import plot_criterion

        plot_criterion(report, args.plot, f"{title}\n{'inside' if report.inside else 'outside'} the regime")
        print(f"plot: {args.plot}")
    return 0


def show(report: "CriterionReport", title: str, per_head: bool) -> None:
    """Print two tables, what the theorem asks and what low rank costs, and the verdict."""
    from rich.console import Console
    from rich.table import Table

    console = Console()
    if console.width < 120:  # a file or a narrow terminal gets whole rows rather than broken words
        console = Console(width=120)
    bounds = Table(title=f"bounded entries: {title}", title_justify="left")
    for name in ("layer", "B, largest |logit|", "by lengths", "keys centred", "ln N", "d", "4 ln N", "inside"):
        bounds.add_column(name, justify="left" if name == "layer" else "right")
    for layer in report.layers:
        for head in range(len(layer.bound)) if per_head else [None]:
            bounds.add_row(*_bounds_row(layer, head))
    console.print(bounds)
    costs = Table(title="low rank", title_justify="left")
    for name in (
        "layer",
        "degree",
        "rank",
        "N",
        "certificate",
        "rounding",
        "error",
        "state / cache",
        "from side",
        "pays",
    ):
        costs.add_column(name, justify="left" if name == "layer" else "right", no_wrap=name == "layer")
    for layer in report.layers:
        costs.add_row(*_costs_row(layer))
    console.print(costs)
    console.print(report.verdict, highlight=False)


def _bounds_row(layer: "LayerReport", head: int | None) -> list[str]:
    def largest(values: list[float]) -> str:
        return f"{max(values) if head is None else values[head]:.3g}"

    name, limit, inside = layer.layer, layer.root_log_tokens**2, layer.inside
    if head is not None:
        name = f"{layer.layer} head {head}"
        inside = layer.heads_inside[head]
    return [
        *(name, largest(layer.bound), largest(layer.cauchy_schwarz), largest(layer.centred), f"{limit:.3g}"),
        *(str(layer.head_width), f"{4 * limit:.3g}", "yes" if inside else "no"),
    ]


def _costs_row(layer: "LayerReport") -> list[str]:
    def number(value: float | None) -> str:
        return "-" if value is None else f"{value:.2g}"

    def count(value: int | float | None) -> str:
        return "-" if value is None else f"{value:,.0f}" if value < 1e6 else f"{value:.2g}"

    memory = "-" if layer.state_numbers is None else f"{count(layer.state_numbers)} / {count(layer.cache_numbers)}"
    return [
        *(layer.layer, count(layer.degree), count(layer.rank), count(layer.tokens)),
        *(number(layer.certificate), number(layer.rounding), number(layer.error), memory),
        *(count(layer.crossover_side), "yes" if layer.pays else "no"),
    ]
