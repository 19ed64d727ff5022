"""`flowgression circuit`: compile, verify, prove, scale, count, draw and export threshold circuits of models."""

import argparse
import shlex
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from flowgression.cli import _circuit as asked
from flowgression.text import say

SUMMARY = "compile FlowAR to constant-depth threshold circuits, and check them"


def run(argv: list[str]) -> int:
    """Run the command. Returns 0, or 1 if a check failed."""
    args = asked.parse(argv)
    actions = {"compile": _compile, "verify": _verify, "prove": _prove, "scale": _scale, "count": _count}
    return (actions | {"digest": _digest, "draw": _draw, "export": _export})[args.action](args)


@contextmanager
def _progress(unit: str) -> Iterator[Any]:
    """A bar that counts `unit`, and the time."""
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    amount = TextColumn("{task.completed:,} of {task.total:,} " + unit)
    with Progress(TextColumn("{task.description}"), BarColumn(), amount, TimeElapsedColumn()) as progress:
        yield progress


def _count_program(args: argparse.Namespace, program: Any, precision: Any) -> Any:
    """The program's counted operations and its outline, under a progress bar."""
    from flowgression.circuits.compile import count, outline

    plan = outline(program, precision, backend=args.backend)
    with _progress("operations") as progress:
        task = progress.add_task("counting", total=plan.operations)
        counted = count(
            program,
            precision,
            backend=args.backend,
            wired=not args.weights_as_inputs,
            progress=lambda operations: progress.update(task, completed=operations),
        )
    return counted, plan


def _build(
    args: argparse.Namespace, program: Any, precision: Any, check: Callable[[int], None] = lambda gates: None
) -> Any:
    """Count, refuse what `check` or the memory refuses, then build under a progress bar: circuit and outline."""
    from flowgression.circuits.compile import build
    from flowgression.circuits.memory import check_fits

    counted, plan = _count_program(args, program, precision)
    check(counted.total_statistics.gates)
    needed = check_fits(counted.total_statistics, args.memory)
    with _progress("gates") as progress:
        task = progress.add_task(f"building in about {needed:.2f} GiB", total=counted.total_statistics.gates)
        circuit = build(
            program,
            precision,
            backend=args.backend,
            wired=not args.weights_as_inputs,
            progress=lambda gates: progress.update(task, completed=gates),
        )
        progress.update(task, completed=circuit.num_gates, total=circuit.num_gates)
    return circuit, plan


def _report(program: Any, precision: Any, num_inputs: int, statistics: Any, nominal: int) -> None:
    """A table of the circuit's figures."""
    point = "formats by measured ranges" if precision.ranges is not None else f"{precision.f} behind the point"
    say(f"{program.name}, {precision.bits} bits with {point}")
    figures = {"input bits": num_inputs} | statistics.to_dict()
    for name, value in figures.items():
        bound = f"   (nominal bound {nominal:,}, the same for every n)" if name == "depth" else ""
        say(f"  {name.replace('_', ' '):<16}{value:,}{bound}")


def _compile(args: argparse.Namespace) -> int:
    from pathlib import Path

    from rich.console import Console

    path = asked.check_output(args.out, ".npz")
    program = asked.program(args)
    precision = asked.formats(args, program)
    circuit, plan = _build(args, program, precision)
    with Console().status("writing"):
        circuit.save(path)
    _report(program, precision, circuit.num_inputs, circuit.statistics(), plan.depth)
    say(f"written to {path} ({Path(path).stat().st_size / 2**20:.1f} MiB)")
    return 0


def _verify(args: argparse.Namespace) -> int:
    from flowgression.circuits import checks

    if args.suite:
        return _suite(checks.suite())
    program = asked.program(args)
    precision = asked.formats(args, program)
    circuit, _ = _build(args, program, precision)
    findings = checks.check_program(program, circuit, precision, args.backend, args.samples, args.faults)
    return int(sum(not _show(finding) for finding in findings) > 0)


def _prove(args: argparse.Namespace) -> int:
    """Write circuit.npz and certificate.json into the folder, then let the checker judge the files."""
    from rich.console import Console

    from flowgression.circuits.certify import certify
    from flowgression.circuits.memory import check_fits
    from flowgression.circuits.proof.checker import main as check

    folder = asked.check_folder(args.out)
    program = asked.program(args)
    precision = asked.formats(args, program)
    if args.cells:
        _certify_cells(args, program, precision, folder)
    else:
        counted, _ = _count_program(args, program, precision)
        needed = check_fits(counted.total_statistics, args.memory)
        with Console().status(f"building in about {needed:.2f} GiB, with its certificate"):
            certify(program, precision, folder, backend=args.backend, wired=not args.weights_as_inputs)
    digest = asked.digest_command(args)
    with Console().status("checking"):
        status = check([folder])
    if args.text:
        from flowgression.circuits.plain import write_text

        say(f"as plain text, for the checker of proofs/: {write_text(folder)}")
    say(f"{program.name}: written to {folder}. The claim's SHA-256 once more, from the model alone:")
    say(f"  {digest}")
    say("check the proof again with")
    say(f"  python -m flowgression.circuits.proof.checker {shlex.quote(folder)}", flush=True)
    return status


def _digest(args: argparse.Namespace) -> int:
    """The digest of a claim and the model's name, without building a gate of it."""
    from flowgression.circuits.certify_cells import claim_of_cells
    from flowgression.circuits.claim import claim
    from flowgression.circuits.proof.model import digest_of

    program = asked.program(args)
    precision = asked.formats(args, program)
    if args.cells:
        found = claim_of_cells(program, precision, backend=args.backend, wired=not args.weights_as_inputs)
    else:
        found = claim(program, precision, wired=not args.weights_as_inputs)
    words = found["name"]
    say(f"claim: SHA-256 {digest_of(found)}")
    say(f"  model: {words['family']}, {words['sizes']}\n  weights: {words['weights']}\n  numbers: {words['formats']}")
    return 0


def _certify_cells(args: argparse.Namespace, program: Any, precision: Any, folder: str) -> None:
    from flowgression.circuits.certify_cells import certify_cells
    from flowgression.circuits.compile import outline

    plan = outline(program, precision, backend=args.backend)
    with _progress("operations") as progress:
        task = progress.add_task("counting, then building each distinct cell", total=plan.operations)
        _, counted = certify_cells(
            program,
            precision,
            folder,
            backend=args.backend,
            wired=not args.weights_as_inputs,
            progress=lambda operations: progress.update(task, completed=operations),
        )
    _report(program, precision, counted.num_inputs, counted.total_statistics, plan.depth)


def _suite(checks: list[Any]) -> int:
    """Run the checks under a progress bar; each finding is printed as it comes."""
    import time

    started, cpu, failed = time.monotonic(), time.process_time(), 0
    with _progress("checks") as progress:
        task = progress.add_task("", total=len(checks))
        for words, check in checks:
            progress.update(task, description=words)
            failed += sum(not _show(finding, progress.console) for finding in check())
            progress.advance(task)
        progress.update(task, description=f"{failed} claims FAIL" if failed else "all claims hold")
    say(f"{time.monotonic() - started:.0f} s, {time.process_time() - cpu:.0f} s of CPU")
    return int(failed > 0)


def _show(finding: Any, console: Any = None) -> bool:
    from rich.markup import escape

    from flowgression.terminal import Terminal

    mark = "[green]holds[/green]" if finding.holds else "[red]FAILS[/red]"
    text = f"{mark}  {escape(finding.claim)}\n       {escape(finding.measured)}"
    (console or Terminal()).print(text, markup=True, soft_wrap=True, highlight=False)
    return bool(finding.holds)


def _scale(args: argparse.Namespace) -> int:
    from flowgression.circuits.scaling import family_of, logarithmic, measure, plot, usual_names, with_measured_ranges

    precision = asked.precision(args) if args.log_bits is None else logarithmic(args.log_bits)
    if args.plot is not None:
        asked.check_output(args.plot, ".svg", ".png", ".pdf", flag="--plot")
    sides = None if args.sides is None else asked.integers(args.sides, "--sides")
    families = []
    for name in usual_names() if args.what is None else (args.what,):
        family = family_of(name, sides, asked.size(args, "width"))
        families.append(with_measured_ranges(family) if args.measured else family)
    scalings = []
    with _progress("operations") as progress:
        for family in families:
            task = progress.add_task(f"counting {family.name}", total=1)

            def update(done: int, of: int, task: Any = task) -> None:
                progress.update(task, completed=done, total=of)

            scalings.append(measure(family, precision, args.backend, update))
    for family, scaling in zip(families, scalings, strict=True):
        _show_scaling(family, scaling)
    if args.plot is not None:
        plot(scalings, args.plot)
        say(f"written to {args.plot}")
    return int(any(not scaling.same_depth for scaling in scalings))


def _show_scaling(family: Any, scaling: Any) -> None:
    weights = "weights wired in" if family.wired else "weights as inputs"
    say(f"{family.name}, {weights}: {family.programs[0].name} ... {family.programs[-1].name}")
    say(f"  {'n':>3} {'bits':>4} {'depth':>7} {'gates':>16} {'wires':>18}")
    for n, bits, each in zip(scaling.sides, scaling.bits, scaling.statistics, strict=True):
        say(f"  {n:>3} {bits:>4} {each.depth:>7,} {each.gates:>16,} {each.wires:>18,}")
    say(f"  depth: {'equal, ' if scaling.same_depth else ''}{scaling.depth_summary}")
    say(f"  size: {scaling.size_summary}")


def _count(args: argparse.Namespace) -> int:
    program = asked.program(args)
    precision = asked.formats(args, program)
    counted, plan = _count_program(args, program, precision)
    _report(program, precision, counted.num_inputs, counted.total_statistics, plan.depth)
    say(f"  {'cells built':<16}{counted.cells_built:,}")
    for name, gates in counted.by_operation.most_common():
        say(f"    {name:<22}{gates:>22,} gates")
    return 0


def _draw(args: argparse.Namespace) -> int:
    from pathlib import Path

    from flowgression.circuits.draw import check_drawable, to_dot, to_svg
    from flowgression.files import atomic_write

    path = asked.check_output(args.out, ".dot", ".svg")
    circuit, title = _circuit(args, check_drawable)
    text = to_dot(circuit) if Path(path).suffix == ".dot" else to_svg(circuit, title)
    with atomic_write(path, "w") as file:
        file.write(text)
    say(f"written to {path}")
    return 0


def _export(args: argparse.Namespace) -> int:
    from flowgression.circuits.export import SUFFIXES, export
    from flowgression.files import atomic_write

    path = asked.check_output(args.out, asked.choice(args.format, SUFFIXES, "--format"))
    circuit, _ = _circuit(args)
    with atomic_write(path, "w") as file:
        file.writelines(export(circuit, args.format))
    say(f"written to {path}")
    return 0


def _circuit(args: argparse.Namespace, check: Callable[[int], None] = lambda gates: None) -> tuple[Any, str]:
    """The circuit of a file that compile wrote, or of the program asked for, and its title."""
    from flowgression.circuits.ir import load

    if args.what is not None and args.what.endswith(".npz"):
        circuit = load(args.what)
        check(circuit.num_gates)
        return circuit, args.what
    program = asked.program(args)
    return _build(args, program, asked.formats(args, program), check)[0], program.name
