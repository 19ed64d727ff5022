"""Tables and pictures of the documents that depend on built-in weights: stamped with them, and made again.

    python tools/figures.py                      make what is not of the weights in the package
    python tools/figures.py --list               what there is, how long it takes, and of which weights it is
    python tools/figures.py --only 'circuits-*'  some of it (patterns as of a shell), also what is of today's weights
    python tools/figures.py --quick              leave out what takes over five minutes; its page then says so
    python tools/figures.py --mark               make nothing; pages say what is of older weights

A figure stands in its page between `<!-- figure NAME -->` and `<!-- end -->`. Its last line says when and where it was
made, of which weights (the first digits of the SHA-256 of their file) and by which command; a JSON file says so in its
field "measured". Each figure is written as soon as it is made, so the same command goes on where it was stopped. A
command that fails leaves its figure as it was; the others are made, and the exit status is 1. tests/test_figures.py
fails where a page is of other weights and does not say so.
"""

import argparse
import datetime
import fnmatch
import hashlib
import os
import platform
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch

from flowgression.autoencoders.presets import builtin_autoencoders
from flowgression.evaluation.hardware import processor_name
from flowgression.files import atomic_write
from flowgression.sampling.folders import find_folder

ROOT = Path(__file__).resolve().parent.parent
WEIGHTS = Path("transformer") / "diffusion_pytorch_model.safetensors"
AUTOENCODER_WEIGHTS = WEIGHTS.name
DIGITS = 12  # of a SHA-256
SLOW = 5.0  # minutes
OLDER = "Of older weights than those in the package: "
FOUR = ("flowar-mnist", "fastflowar-mnist", "sit-mnist", "arflow-mnist")


@dataclass(frozen=True)
class Figure:
    """One table or picture.

    Attributes:
        name, page: of its place; page below the root of the checkout.
        command: what makes it, run by this Python in the root. Lines of its output that begin with "|" are the table.
        models: the built-in models and autoencoders on whose weights it depends; none for times of networks with
            random weights.
        minutes: of one core of an AMD EPYC (AVX2).
        picture: the command writes a file; what stands in the page stays.
        needs: a folder that is in no checkout; docs of the page say how to fill it.
    """

    name: str
    page: str
    command: str
    models: tuple[str, ...]
    minutes: float
    picture: bool = False
    needs: str = ""


FIGURES = (
    Figure("models", "docs/which-model.md", "benchmarks/builtin.py models", (*FOUR, "flowar-mnist-bounded"), 6),
    Figure("criterion", "docs/fastflowar.md", "benchmarks/builtin.py criterion", FOUR[:2], 1),
    Figure("approximate", "docs/fastflowar.md", "benchmarks/builtin.py approximate", ("flowar-mnist-bounded",), 2),
    Figure("approximation", "docs/fastflowar.md", "benchmarks/approximation.py --degrees 2 4",
           ("flowar-mnist-bounded",), 3),
    Figure("lowrank64", "docs/fastflowar.md",
           "benchmarks/approximation.py --tokens 64 --num-images 1 --degrees 2 4 --certificates 0.03 0.012 0.005 0.002",
           ("flowar-mnist-bounded",), 2),
    Figure("conversion", "docs/fastflowar.md", "benchmarks/builtin.py conversion", ("flowar-mnist",), 12),
    Figure("circuits-precision", "docs/circuits-measured.md", "benchmarks/circuit_models.py precision", FOUR, 4),
    Figure("circuits-counts", "docs/circuits-measured.md", "benchmarks/circuit_models.py counts", FOUR, 3),
    Figure("calls", "docs/training.md", "benchmarks/builtin.py calls", ("sit-mnist", "sit-mnist-meanflow"), 4),
    Figure("verdicts", "docs/results.md", "benchmarks/verdicts.py", (), 0.1),
    Figure("ladder", "docs/results.md", "benchmarks/ladder.py", (), 2),
    Figure("long-range", "docs/results.md", "benchmarks/long_range.py", ("arflow-mnist", "sit-mnist"), 5),
    Figure("guidance", "docs/sampling.md", "benchmarks/guidance.py --write --families sit arflow flowar",
           ("sit-mnist", "arflow-mnist", "flowar-mnist"), 15),
    Figure("compiled", "docs/log/sampling.md", "benchmarks/compiled.py --models sit-mnist arflow-mnist",
           ("sit-mnist", "arflow-mnist"), 3),
    Figure("recipes", "docs/scaling.md", "benchmarks/recipes.py", (), 5),
    Figure("page", "src/flowgression/web/page/data/fid.json", "tools/page_data.py fid", FOUR, 15, picture=True),
    Figure("digits", "docs/index.md", "benchmarks/builtin.py digits", ("arflow-mnist",), 0.2, picture=True),
    Figure("edits", "docs/editing.md", "tools/edits.py docs/images/edits.png",
           ("sit-emoji", "arflow-mnist", "flowar-mnist"), 0.7, picture=True),
    Figure("glyphs", "docs/glyphs.md", "benchmarks/glyphs.py --fonts fonts/judge --train fonts/train",
           ("arflow-glyphs",), 10, needs="fonts/judge"),
    Figure("alphabet", "docs/glyphs.md", "tools/specimen.py docs/images", ("arflow-glyphs",), 0.3, picture=True),
    Figure("emoji", "docs/your-pictures.md", "benchmarks/builtin.py emoji", ("sit-emoji",), 0.3, picture=True),
    Figure("emoji64", "docs/your-pictures.md", "benchmarks/builtin.py emoji64", ("sit-emoji64",), 0.8, picture=True),
    Figure("autoencoder", "docs/your-pictures.md", "benchmarks/autoencoder.py", ("pictures-kl8",), 1.5,
           needs="pictures/unseen"),
    Figure("arflow", "docs/benchmarks/arflow.md", "benchmarks/arflow.py --plot docs/images/history.png", (), 3),
    Figure("flowar", "docs/benchmarks/flowar.md", "benchmarks/flowar.py", (), 3),
)  # fmt: skip


@dataclass(frozen=True)
class Stamp:
    """The last line of a figure. weights: digests by name; older: the page says that they are not today's."""

    date: str
    machine: str
    weights: dict[str, str]
    command: str
    older: bool = False

    def __str__(self) -> str:
        weights = ", ".join(f"{name} {digest}" for name, digest in self.weights.items())
        facts = "; ".join(filter(None, (f"{self.date}, {self.machine}", weights and f"weights {weights}")))
        return f"*{OLDER * self.older}{facts}; `{self.command}`*"

    @classmethod
    def read(cls, line: str) -> "Stamp":
        """The stamp that `line` holds; ValueError if it holds none."""
        pattern = rf"\*?({re.escape(OLDER)})?(\d{{4}}-\d\d-\d\d), ([^;]+)(?:; weights ([^;]+))?; `?([^`*]+)`?\*?"
        found = re.fullmatch(pattern, line)
        if found is None:
            raise ValueError(f"no stamp: {line!r}")
        older, date, machine, weights, command = found.groups()
        pairs = (entry.split(" ") for entry in weights.split(", ")) if weights else ()
        return cls(date, machine, dict(pairs), command, older is not None)


def weights_digest(name: str | Path) -> str:
    """The first digits of the SHA-256 of a model's, or an autoencoder's, file of weights."""
    autoencoder = builtin_autoencoders().get(str(name))
    path = find_folder(name) / WEIGHTS if autoencoder is None else autoencoder / AUTOENCODER_WEIGHTS
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()[:DIGITS]


def digests(figure: Figure) -> dict[str, str]:
    """Those of today of the models of a figure."""
    return {name: weights_digest(name) for name in figure.models}


def new_stamp(figure: Figure) -> Stamp:
    """Of today, this machine, and the weights in the package."""
    processor = processor_name(torch.device("cpu")).partition(" x ")[2] or platform.machine()
    cores = f"{os.cpu_count()} vCPU, {torch.backends.cpu.get_cpu_capability()}"
    machine = f"{processor}, {cores}, torch {torch.__version__.partition('+')[0]}"
    return Stamp(str(datetime.date.today()), machine, digests(figure), f"python {figure.command}")


def place(figure: Figure, text: str) -> re.Match[str]:
    """Where a figure stands in the text of its page: groups of what it shows and of its stamp."""
    if figure.page.endswith(".json"):
        pattern = r'()"measured":"([^"]*)"'
    else:
        pattern = rf"<!-- figure {re.escape(figure.name)} -->\n\n(.*?)\n\n(\*[^\n]*\*)\n\n<!-- end -->"
    found = list(re.finditer(pattern, text, re.DOTALL))
    if len(found) != 1:
        raise ValueError(f"{figure.page} has {len(found)} places for the figure {figure.name!r}; expected one")
    return found[0]


def stamp_of(figure: Figure) -> Stamp:
    """What the page says."""
    return Stamp.read(place(figure, (ROOT / figure.page).read_text(encoding="utf-8"))[2])


def write(figure: Figure, stamp: Stamp, rows: Sequence[str] | None) -> None:
    """Put rows (None: those that are there) and stamp into the page, as it is now."""
    path = ROOT / figure.page
    text = path.read_text(encoding="utf-8")
    found = place(figure, text)
    shown = found[1] if rows is None else "\n".join(rows)
    block = f"<!-- figure {figure.name} -->\n\n{shown}\n\n{stamp}\n\n<!-- end -->"
    if figure.page.endswith(".json"):
        block = f'"measured":"{str(stamp).strip("*").replace("`", "")}"'
    with atomic_write(path, "w") as file:
        file.write(text[: found.start()] + block + text[found.end() :])


def is_current(figure: Figure) -> bool:
    return stamp_of(figure).weights == digests(figure)


def mark(figure: Figure) -> None:
    """Let the page say whether the figure is of older weights."""
    stamp = stamp_of(figure)
    older = stamp.weights != digests(figure)
    if older != stamp.older:
        write(figure, Stamp(stamp.date, stamp.machine, stamp.weights, stamp.command, older), None)


def make(figure: Figure) -> None:
    """Run the command of a figure and write what it prints; subprocess.CalledProcessError if it fails."""
    command = [sys.executable, *shlex.split(figure.command)]
    printed = subprocess.run(command, cwd=ROOT, check=True, stdout=subprocess.PIPE, encoding="utf-8").stdout
    rows = [line for line in printed.splitlines() if line.startswith("|") or not line.strip()]
    while rows and not rows[0].strip():
        rows.pop(0)
    while rows and not rows[-1].strip():
        rows.pop()
    if not rows and not figure.picture:
        raise ValueError(f"`{figure.command}` printed no table")
    write(figure, new_stamp(figure), None if figure.picture else rows)


def problems(figures: Sequence[Figure] = FIGURES) -> Iterator[str]:
    """What a page says wrongly about the weights of its figures; a line each."""
    for figure in figures:
        stamp = stamp_of(figure)
        if set(stamp.weights) != set(figure.models):
            yield f"{figure.page}: {figure.name} is stamped {sorted(stamp.weights)}; expected {sorted(figure.models)}"
        elif (stamp.weights != digests(figure)) != stamp.older:
            yield f"{figure.page}: {figure.name} is of other weights than the page says; run `make figures`"


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--list", action="store_true")
    parser.add_argument("--only", nargs="+", metavar="NAME", help="also what is of today's weights")
    parser.add_argument("--quick", action="store_true", help=f"leave out what takes over {SLOW:g} minutes")
    parser.add_argument("--mark", action="store_true")
    args = parser.parse_args(argv)
    if args.list:
        for figure in FIGURES:
            state = "of today's weights" if is_current(figure) else "of older weights"
            print(f"{figure.name:20} {figure.page:28} {figure.minutes:5g} min   {state}, {stamp_of(figure).date}")
        return 0
    wanted = [each for each in FIGURES if _is_wanted(each, args.only)]
    if args.only and not wanted:
        parser.error(f"no figure is called {' or '.join(args.only)}; --list shows them all")
    for figure in wanted:
        if figure.needs and not (ROOT / figure.needs).exists():
            print(f"{figure.name}: cannot be made without {figure.needs}; {figure.page} says how to get it")
    wanted = [figure for figure in wanted if not figure.needs or (ROOT / figure.needs).exists()]
    if args.quick:
        wanted = [figure for figure in wanted if figure.minutes <= SLOW]
    if args.mark:
        wanted = []
    print(f"{len(wanted)} figures to make, about {sum(each.minutes for each in wanted):g} minutes of one core")
    failed = [figure.name for figure in wanted if not _made(figure)]
    for figure in FIGURES:
        mark(figure)
    if failed:
        print(f"failed: {', '.join(failed)}")
    return 1 if failed else 0


def _is_wanted(figure: Figure, only: Sequence[str] | None) -> bool:
    if only is None:
        return not is_current(figure)
    return any(fnmatch.fnmatch(figure.name, pattern) for pattern in only)


def _made(figure: Figure) -> bool:
    """Make one figure and say how it went."""
    print(f"{figure.name}: python {figure.command}  (about {figure.minutes:g} min)", flush=True)
    started = time.monotonic()
    try:
        make(figure)
    except (subprocess.CalledProcessError, ValueError) as error:
        print(f"{figure.name}: {error}", flush=True)
        return False
    print(f"{figure.name}: written to {figure.page} after {(time.monotonic() - started) / 60:.1f} min", flush=True)
    return True


if __name__ == "__main__":
    sys.exit(main())
