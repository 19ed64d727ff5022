"""Depth and size against the side n of the map, with fitted exponents, beside the paper's bounds."""

import itertools
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from flowgression.circuits.calibrate import measured_precision
from flowgression.circuits.compile import Program, count, outline
from flowgression.circuits.flowar_spec import random_spec
from flowgression.circuits.frontend import NETWORKS, small_networks
from flowgression.circuits.ir import Statistics
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.programs import flowar_program, layer_program
from flowgression.errors import InputError
from flowgression.files import atomic_write

GATE_BOUND, WIRE_BOUND = 4.0, 6.0
"""Exponents of n that the constructions cannot exceed: n^4 pairs of tokens carry a constant number of gates each,
and the sums over n^2 tokens have columns of O(n^2) bits whose banks hold the square of that, n^4 wires for each of
n^2 tokens.
"""


class Family(NamedTuple):
    """Programs of growing n that differ in nothing else. wired False: their weights are inputs of the circuits.
    ranges: of the values, the same for every n; None: one format for all values.

    Constants change a circuit: a table of positions or a resampling matrix with few digits shortens a path. So
    models are compared with weights as inputs, where every n has the same operations on the same kinds of numbers.
    """

    name: str
    sides: tuple[int, ...]
    programs: tuple[Program, ...]
    wired: bool = True
    ranges: Mapping[str, float] | None = None


def layer_family(name: str, sides: Sequence[int], width: int = 2) -> Family:
    """One layer on n x n maps. Raises InputError for unknown names and fewer than two sides."""
    return Family(name, _growing(sides), tuple(layer_program(name, n, width) for n in sides))


def flowar_family(scales: Sequence[tuple[int, ...]], width: int = 2, **sizes: Any) -> Family:
    """FlowAR with the same number of scales each, one block in the transformer and one in the flow head."""
    sizes = {"width": width, "flow_width": width, "decoder_depth": 0, "num_classes": 4, **sizes}
    programs = tuple(flowar_program(random_spec(0, scales=each, **sizes)) for each in scales)
    return Family(programs[0].name, _growing([each[-1] for each in scales]), programs, wired=False)


def family_of(name: str, sides: Sequence[int] | None, width: int) -> Family:
    """Small models of a family, by a name of `small_networks`, or a layer's. Raises InputError for unknown names."""
    small = small_networks().get(name)
    if small is None:
        return layer_family(name, sides or (2, 3, 4, 5, 6), width)
    chosen = sides or small.network.sides
    programs = tuple(small.network.program(small.spec(n, width)) for n in chosen)
    return Family(name, _growing(chosen), programs, wired=False)


def usual_names() -> tuple[str, str]:
    """What is shown where nothing is asked for: attention, and the first model that draws scale by scale."""
    scales = NETWORKS["scales"]
    return "attention", next(name for name, small in small_networks().items() if small.network is scales)


def with_measured_ranges(family: Family) -> Family:
    """The same family with the ranges measured on its smallest program, so that formats do not depend on n."""
    ranges = measured_precision(family.programs[0], 8).ranges
    return family._replace(ranges=ranges)


def logarithmic(factor: float) -> Callable[[int], int]:
    """Bits p = factor log2 n, rounded up, at least 4: with tables of 2^p entries, size stays polynomial in n."""
    return lambda n: max(4, math.ceil(factor * math.log2(n)))


def _growing(sides: Sequence[int]) -> tuple[int, ...]:
    if len(sides) < 2 or any(b <= a for a, b in itertools.pairwise(sides)):
        raise InputError(f"sides are {list(sides)}; expected two or more, growing, such as 2,3,4.")
    return tuple(sides)


@dataclass(frozen=True)
class Scaling:
    """Measured figures of a family, one per n, and the bound on depth that holds for every n."""

    name: str
    sides: tuple[int, ...]
    statistics: tuple[Statistics, ...]
    nominal: int
    bits: tuple[int, ...] = ()

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(s.depth for s in self.statistics)

    @property
    def same_depth(self) -> bool:
        return len(set(self.depths)) == 1

    @property
    def fitted(self) -> tuple[int, ...]:
        """The larger half of the sides, on which exponents are fitted."""
        return self.sides[(len(self.sides) - 1) // 2 :]

    def exponent(self, figure: str) -> float:
        """Slope of log(figure) over log(n), least squares over the larger half of the sides."""
        y = [np.log(float(getattr(s, figure))) for s in self.statistics[-len(self.fitted) :]]
        return float(np.polyfit(np.log(self.fitted), y, 1)[0])

    @property
    def depth_summary(self) -> str:
        found = f"{self.depths[0]} for every n" if self.same_depth else f"differs: {list(self.depths)}"
        return f"{found} (nominal bound {self.nominal}; the paper: O(1))"

    @property
    def size_summary(self) -> str:
        fixed = "" if len(set(self.bits)) <= 1 else ", for fixed p"
        return (
            f"gates ~ n^{self.exponent('gates'):.2f} (bound n^{GATE_BOUND:g}{fixed}), "
            f"wires ~ n^{self.exponent('wires'):.2f} (bound n^{WIRE_BOUND:g}{fixed}), "
            f"fitted on n = {self.fitted[0]} to {self.fitted[-1]} (the paper: poly(n))"
        )

    @property
    def summary(self) -> str:
        return f"depth {self.depth_summary}; {self.size_summary}"


def measure(
    family: Family,
    precision: Precision | Callable[[int], int],
    backend: str = "table",
    progress: Callable[[int, int], None] = lambda done, of: None,
) -> Scaling:
    """Count every program of the family, with one precision, or with bits by n (see `logarithmic`). progress(operations
    done, of so many) is called after each operation.
    """
    precisions = [_precision(family, precision, n) for n in family.sides]
    pairs = list(zip(family.programs, precisions, strict=True))
    outlines = [outline(program, each, backend=backend) for program, each in pairs]
    total, done, figures = sum(each.operations for each in outlines), 0, []

    def step(_: int) -> None:
        nonlocal done
        done += 1
        progress(done, total)

    for program, each in pairs:
        counted = count(program, each, backend=backend, wired=family.wired, progress=step)
        figures.append(counted.total_statistics)
    nominal, bits = max(each.depth for each in outlines), tuple(each.bits for each in precisions)
    return Scaling(family.name, family.sides, tuple(figures), nominal, bits)


def _precision(family: Family, precision: Precision | Callable[[int], int], n: int) -> Precision:
    if isinstance(precision, Precision) and family.ranges is None:
        return precision
    bits = precision.bits if isinstance(precision, Precision) else precision(n)
    return Precision(bits, ranges=family.ranges)


def plot(scalings: Sequence[Scaling], path: str | Path) -> None:
    """Gates and wires against n on logarithmic axes, depth beside it. `path` ends in .svg, .png or .pdf."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    FigureCanvasAgg(figure)
    size, depth = figure.subplots(1, 2)
    for k, scaling in enumerate(scalings):
        colour = f"C{k}"
        for name, style in (("gates", "o-"), ("wires", "s--")):
            values = [getattr(s, name) for s in scaling.statistics]
            label = f"{scaling.name}: {name} ~ n^{scaling.exponent(name):.2f}"
            size.loglog(scaling.sides, values, style, color=colour, label=label)
        depth.plot(scaling.sides, scaling.depths, "o-", color=colour, label=scaling.name)
    sides = sorted({side for scaling in scalings for side in scaling.sides})
    size.set(xlabel="n (side of the finest map)", title="Size")
    size.set_xticks(sides, [str(side) for side in sides])
    size.minorticks_off()
    depth.set(xlabel="n (side of the finest map)", title="Depth", ylim=(0, None))
    size.legend(fontsize=8)
    depth.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix[1:])
