"""`flowgression circuit`: compile, verify, scale, count and draw threshold circuits of FlowAR (arXiv 2502.16490)."""

import argparse
from typing import Any

from flowgression.cli._parser import CommandParser
from flowgression.errors import InputError, did_you_mean

SUMMARY = "compile FlowAR to constant-depth threshold circuits, and check them"

DESCRIPTION = """flowgression circuit ACTION [WHAT] [OPTIONS]

  compile WHAT --output FILE.npz   build a circuit, save it and report its size
  verify WHAT                      compare it with the integer interpreter and plant faults
  verify --suite                   all claims about the circuits, at full size
  scale [--plot FILE]              depth and size against n, with exponents
  count WHAT                       figures without building; WHAT may also be flowar-s (256 px)
  draw WHAT --output FILE          a small circuit as .dot or .svg

WHAT is a layer (attention, linear, mlp, ...), `flowar` (random weights), or the folder of a trained FlowAR."""

ACTIONS = ("compile", "verify", "scale", "count", "draw")


def run(argv: list[str]) -> int:
    """Run the command. Returns 0, or 1 if a check failed."""
    args = _parser().parse(argv)
    if args.action not in ACTIONS:
        raise InputError(f"unknown action {args.action!r}; {did_you_mean(args.action, ACTIONS)}")
    return {"compile": _compile, "verify": _verify, "scale": _scale, "count": _count, "draw": _draw}[args.action](args)


def _parser() -> CommandParser:
    parser = CommandParser("circuit", DESCRIPTION)
    parser.add_argument("action", metavar="ACTION", help=", ".join(ACTIONS))
    parser.add_argument("what", metavar="WHAT", nargs="?", default=None, help="layer, flowar, flowar-s or a folder")
    parser.add_argument("--n", type=int, default=2, help="side of a layer's map")
    parser.add_argument("--width", type=int, default=2, help="width of a layer, or of both parts of flowar")
    parser.add_argument("--scales", default="2,4", help="sides of flowar's scales")
    parser.add_argument("--steps", type=int, default=1, help="Euler steps per scale")
    parser.add_argument("--bits", type=int, default=8, help="p, bits of a number")
    parser.add_argument("--fraction", type=int, default=None, help="f, fraction bits (default p - 4)")
    parser.add_argument("--backend", default="table", help="functions of one number: table or crt")
    parser.add_argument("--weights-as-inputs", action="store_true", help="count one circuit for all weights")
    parser.add_argument("--samples", type=int, default=1024, help="random inputs of verify")
    parser.add_argument("--faults", type=int, default=50, help="planted faults of verify")
    parser.add_argument("--suite", action="store_true", help="verify everything at full size")
    parser.add_argument("--output", default=None, help="file to write")
    parser.add_argument("--plot", default=None, help="plot of scale: .svg, .png or .pdf")
    parser.add_argument("--memory", type=float, default=None, help="GiB that building may use (default: what is free)")
    return parser


def _precision(args: argparse.Namespace) -> Any:
    from flowgression.circuits.lower.precision import Precision

    return Precision(args.bits, args.fraction)


def _program(args: argparse.Namespace) -> Any:
    from pathlib import Path

    import numpy as np

    from flowgression.circuits.programs import LAYERS, flowar_program, layer_program
    from flowgression.circuits.spec import FLOWAR_S, random_spec, shapes_only

    if args.steps < 1:
        raise InputError(f"--steps is {args.steps}; expected 1 or more.")
    times = tuple(np.linspace(1, 0, args.steps + 1).tolist())
    if args.what in LAYERS:
        return layer_program(args.what, args.n, args.width)
    if args.what == "flowar":
        sizes = {"width": args.width, "flow_width": args.width, "decoder_depth": 0}
        return flowar_program(random_spec(0, scales=_scales(args.scales), times=times, **sizes))
    if args.what == "flowar-s":
        if args.action != "count" or not args.weights_as_inputs:
            raise InputError(
                "flowar-s can only be counted, with --weights-as-inputs; there is no memory that holds it."
            )
        return flowar_program(shapes_only(**FLOWAR_S))
    if args.what is None or not Path(args.what).is_dir():
        raise InputError(
            f"WHAT is {args.what!r}; {did_you_mean(args.what or '', [*LAYERS, 'flowar', 'flowar-s', 'FOLDER'])}"
        )
    from flowgression.circuits.frontend import read_flowar
    from flowgression.models.flowar.model import FlowAR

    return flowar_program(read_flowar(FlowAR.from_pretrained(args.what), times))


def _scales(text: str) -> tuple[int, ...]:
    try:
        return tuple(int(side) for side in text.split(","))
    except ValueError:
        raise InputError(f"--scales is {text!r}; expected sides such as 2,4.") from None


def _build(args: argparse.Namespace, program: Any) -> Any:
    """Count, refuse what does not fit, then build under a progress bar."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    from flowgression.circuits.compile import build, count
    from flowgression.circuits.memory import check_fits

    precision = _precision(args)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed:,} gates"),
        TimeElapsedColumn(),
    )
    with Progress(*columns) as progress:
        task = progress.add_task("counting", total=None)
        expected = count(program, precision, backend=args.backend).total_statistics
        needed = check_fits(expected, args.memory)
        progress.update(task, description=f"building (about {needed:.2f} GiB)", total=expected.gates)
        circuit = build(
            program, precision, backend=args.backend, progress=lambda gates: progress.update(task, completed=gates)
        )
        progress.update(task, completed=circuit.num_gates)
    return circuit


def _report(program: Any, statistics: Any) -> None:
    from rich import print as show

    show(f"[bold]{program.name}[/bold]")
    for name, value in statistics.to_dict().items():
        show(f"  {name.replace('_', ' '):<16}{value:,}")


def _compile(args: argparse.Namespace) -> int:
    if args.output is None:
        raise InputError("compile needs --output FILE.npz.")
    program = _program(args)
    circuit = _build(args, program)
    circuit.save(args.output)
    _report(program, circuit.statistics())
    print(f"written to {args.output}")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from rich.console import Console

    from flowgression.circuits import validating

    console = Console()
    if args.suite:
        findings = validating.suite(lambda text: console.print(f"[dim]{text} ...[/dim]"))
    else:
        program = _program(args)
        findings = validating.check_program(program, _build(args, program), _precision(args), args.samples, args.faults)
    failed = 0
    for finding in findings:
        mark = "[green]holds[/green]" if finding.holds else "[red]FAILS[/red]"
        console.print(f"{mark}  {finding.claim}\n       {finding.measured}", soft_wrap=True)
        failed += not finding.holds
    return int(failed > 0)


def _scale(args: argparse.Namespace) -> int:
    from rich import print as show
    from rich.progress import track

    from flowgression.circuits.scaling import attention_family, flowar_family, measure, plot

    precision = _precision(args)
    families = [
        attention_family((2, 3, 4, 5, 6), precision, args.width),
        flowar_family(((2, 4), (3, 6), (4, 8)), precision),
    ]
    scalings = [measure(family) for family in track(families, "counting")]
    for scaling in scalings:
        show(f"[bold]{scaling.name}[/bold]  n = {list(scaling.sides)}")
        show(f"  gates {[s.gates for s in scaling.statistics]}\n  wires {[s.wires for s in scaling.statistics]}")
        show(f"  {scaling.summary}")
    if args.plot is not None:
        plot(scalings, args.plot)
        print(f"written to {args.plot}")
    return int(any(len(set(scaling.depths)) > 1 for scaling in scalings))


def _count(args: argparse.Namespace) -> int:
    from rich.console import Console

    from flowgression.circuits.compile import count

    program = _program(args)
    with Console().status("counting"):
        ops = count(program, _precision(args), backend=args.backend, wired=not args.weights_as_inputs)
    _report(program, ops.total_statistics)
    print(f"  {'cells built':<16}{ops.cells_built:,}")
    for name, gates in ops.by_operation.most_common():
        print(f"    {name:<22}{gates:>22,} gates")
    return 0


def _draw(args: argparse.Namespace) -> int:
    from pathlib import Path

    from flowgression.circuits.draw import to_dot, to_svg
    from flowgression.files import atomic_write

    if args.output is None or Path(args.output).suffix not in (".dot", ".svg"):
        raise InputError(f"--output is {args.output!r}; expected a file that ends in .dot or .svg.")
    program = _program(args)
    circuit = _build(args, program)
    text = to_dot(circuit) if args.output.endswith(".dot") else to_svg(circuit, program.name)
    with atomic_write(args.output, "w") as file:
        file.write(text)
    print(f"written to {args.output}")
    return 0
