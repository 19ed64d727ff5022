"""`flowgression complexity`: how time, memory and FLOPs grow with the side of the feature map."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError
from flowgression.text import say

if TYPE_CHECKING:
    from flowgression.theory.complexity import Curve

SUMMARY = "measure how attention and whole models grow with the image"

DESCRIPTION = """Measure time, FLOPs and memory of one forward pass against the side n of the
feature map: exact attention (written out, and torch's fused kernel), low-rank attention, and one generation pass of
whole FlowAR and FastFlowAR models of equal size. Exponents are fitted over the upper half of the sides, with 95 %
intervals; the theory says 4 for exact attention and 2 for low rank. On one thread of a processor the time is that of
this process, so other work disturbs it little; FLOPs and memory are counted, free of noise.

  flowgression complexity --plot complexity.png"""


def run(argv: list[str]) -> int:
    """Run the command. Returns the exit status."""
    parser = CommandParser("complexity", DESCRIPTION)
    parser.add_argument("--what", choices=("attention", "models", "all"), default="all", help="default: %(default)s")
    parser.add_argument("--max-seconds", type=float, default=300.0, help="time for everything (default: %(default)g)")
    parser.add_argument("--sides", help="sides n, such as 16,32,64 (default: 8 to 512, by factors of 1.4)")
    parser.add_argument("--head-width", type=int, default=8, help="width d of the heads (default: %(default)s)")
    parser.add_argument("--width", type=int, default=32, help="width of the models (default: %(default)s)")
    parser.add_argument("--degrees", default="2,4", help="of the polynomials; models use the first (default: 2,4)")
    parser.add_argument("--max-tau", type=float, default=2.0, help="bound on the logits (default: %(default)g)")
    parser.add_num_threads(default=1)
    parser.add_argument("--device", default="cpu", help="cpu, cuda or mps (default: %(default)s)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write all points and exponents here")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the log-log plot here (.png, .svg, .pdf)")
    args = parser.parse(argv)
    if args.plot and args.plot.suffix not in (".png", ".svg", ".pdf"):
        parser.error(f"--plot {args.plot} must end in .png, .svg or .pdf")
    from flowgression.cli._outputs import check_folder

    for path in filter(None, (args.json, args.plot)):
        check_folder(path.parent)
    curves, machine = _measure(args)
    show(curves, machine)
    if args.json:
        from flowgression.files import atomic_write

        with atomic_write(args.json, "w") as file:
            json.dump({"machine": machine, "curves": [_as_dict(curve) for curve in curves]}, file, indent=2)
    if args.plot:
        from flowgression.theory.complexity_plot import plot_complexity

        plot_complexity(curves, args.plot, machine)
        say(f"plot: {args.plot}")
    return 0


def _measure(args: Any) -> tuple[list["Curve"], str]:
    from flowgression.devices import pick_device
    from flowgression.layers.lowrank_attention import LowRank
    from flowgression.terminal import Terminal
    from flowgression.theory.complexity import ATTENTION, MODELS, SIDES, Sizes, measure_complexity

    degrees = _whole_numbers("--degrees", args.degrees)
    for degree in degrees:
        LowRank(degree, args.max_tau)  # refuses what is out of range
    sides = SIDES if args.sides is None else _whole_numbers("--sides", args.sides)
    if args.head_width < 4 or args.head_width % 4 or args.width % args.head_width:
        raise InputError(
            f"--head-width {args.head_width} must be a multiple of 4 (rotary positions) that divides "
            f"--width {args.width}"
        )
    device = pick_device(args.device)
    kinds = {"all": (ATTENTION, MODELS), "attention": (ATTENTION,), "models": (MODELS,)}[args.what]
    sizes = Sizes(args.head_width, args.width, degrees, args.max_tau)
    with Terminal(stderr=True).status("starting") as status:
        curves = measure_complexity(
            kinds, sizes=sizes, sides=sides, max_seconds=args.max_seconds, device=device, progress=status.update
        )
    return curves, _machine(device, args.num_threads)


def _machine(device: Any, num_threads: int) -> str:
    import datetime
    import platform

    import torch

    name = torch.cuda.get_device_name(device) if device.type == "cuda" else f"{platform.machine()} {device.type}"
    return f"{name}, {num_threads} thread(s), torch {torch.__version__}, {datetime.date.today()}"


def show(curves: list["Curve"], machine: str) -> None:
    """Print a table per kind, milliseconds per side, and the exponents."""
    from rich.table import Table

    from flowgression.terminal import Terminal

    console = Terminal()
    if console.width < 150:
        console = Terminal(width=150)
    sides = sorted({point.side for curve in curves for point in curve.points})
    table = Table(title=f"milliseconds at side n; {machine}", title_justify="left")
    table.add_column("method")
    for side in sides:
        table.add_column(str(side), justify="right")
    for curve in curves:
        measured = {point.side: f"{1e3 * point.seconds:.3g}" for point in curve.points}
        table.add_row(curve.name, *(measured.get(side, "-") for side in sides))
    console.print(table)
    fits = Table(title="exponents in n, upper half of the sides, 95 % intervals", title_justify="left")
    for name in ("method", "sides", "time", "FLOPs", "memory", "theory"):
        fits.add_column(name, justify="left" if name == "method" else "right")
    for curve in curves:
        upper = curve.upper_half()
        span = f"{upper[0].side} to {upper[-1].side}" if upper else "-"
        values = (str(curve.exponent(figure) or "-") for figure in ("seconds", "flops", "peak_bytes"))
        fits.add_row(curve.name, span, *values, str(curve.theory))
    console.print(fits)


def _as_dict(curve: "Curve") -> dict[str, Any]:
    exponents = {figure: curve.exponent(figure) for figure in ("seconds", "flops", "peak_bytes")}
    points = [point._asdict() for point in curve.points]
    fitted = {name: fit and fit._asdict() for name, fit in exponents.items()}
    return {**asdict(curve), "points": points, "exponents": fitted}


def _whole_numbers(flag: str, text: str) -> tuple[int, ...]:
    try:
        return tuple(int(part) for part in text.split(","))
    except ValueError:
        raise InputError(f"{flag} {text!r} must be whole numbers with commas, such as 16,32,64") from None
