"""Depth and size against the side n of the map, with fitted exponents, beside the paper's bounds."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np

from flowgression.circuits.compile import Program, count, nominal_depth
from flowgression.circuits.ir import Statistics
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.programs import flowar_program, layer_program
from flowgression.circuits.spec import random_spec
from flowgression.files import atomic_write

GATE_BOUND, WIRE_BOUND = 4.0, 6.0
"""Exponents of n that the constructions cannot exceed: n^4 pairs of tokens carry a constant number of gates each,
and the sums over n^2 tokens have columns of O(n^2) bits whose banks hold the square of that, n^4 wires for each of
n^2 tokens.
"""


class Family(NamedTuple):
    """Programs of growing n that differ in nothing else. wired False: their weights are inputs of the circuits.

    Constants change a circuit: a table of positions or a resampling matrix with few digits shortens a path. So
    models are compared with weights as inputs, where every n has the same operations on the same kinds of numbers.
    """

    name: str
    sides: tuple[int, ...]
    programs: tuple[Program, ...]
    precision: Precision
    wired: bool = True


def attention_family(sides: Sequence[int], precision: Precision, width: int = 2) -> Family:
    return Family("attention", tuple(sides), tuple(layer_program("attention", n, width) for n in sides), precision)


def layer_family(name: str, sides: Sequence[int], precision: Precision, width: int = 2) -> Family:
    return Family(name, tuple(sides), tuple(layer_program(name, n, width) for n in sides), precision)


def flowar_family(scales: Sequence[tuple[int, ...]], precision: Precision) -> Family:
    """FlowAR with the same number of scales each, one block in the transformer and one in the flow head, width 2."""
    sizes = {"width": 2, "flow_width": 2, "decoder_depth": 0, "num_classes": 4}
    programs = tuple(flowar_program(random_spec(0, scales=each, **sizes)) for each in scales)
    return Family("FlowAR", tuple(each[-1] for each in scales), programs, precision, wired=False)


@dataclass(frozen=True)
class Scaling:
    """Measured figures of a family, one per n, and the bound on depth that holds for every n."""

    name: str
    sides: tuple[int, ...]
    statistics: tuple[Statistics, ...]
    nominal: int

    @property
    def depths(self) -> tuple[int, ...]:
        return tuple(s.depth for s in self.statistics)

    def exponent(self, figure: str) -> float:
        """Slope of log(figure) over log(n), least squares over the larger half of the sides."""
        start = (len(self.sides) - 1) // 2
        x = np.log(self.sides[start:])
        y = np.log([float(getattr(s, figure)) for s in self.statistics[start:]])
        return float(np.polyfit(x, y, 1)[0])

    @property
    def summary(self) -> str:
        return (
            f"depths {list(self.depths)} (nominal bound {self.nominal}), "
            f"gates ~ n^{self.exponent('gates'):.2f} (bound n^{GATE_BOUND:g}), "
            f"wires ~ n^{self.exponent('wires'):.2f} (bound n^{WIRE_BOUND:g})"
        )


def measure(family: Family) -> Scaling:
    """Count every program of the family."""
    figures = tuple(
        count(program, family.precision, wired=family.wired).total_statistics for program in family.programs
    )
    nominal = max(nominal_depth(program, family.precision) for program in family.programs)
    return Scaling(family.name, family.sides, figures, nominal)


def plot(scalings: Sequence[Scaling], path: str | Path) -> None:
    """Gates and wires against n on logarithmic axes, depth beside it. The suffix of `path` decides the format."""
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
    size.set(xlabel="n (side of the finest map)", title="Size")
    depth.set(xlabel="n (side of the finest map)", title="Depth", ylim=(0, None))
    size.legend(fontsize=8)
    depth.legend(fontsize=8)
    with atomic_write(path) as file:
        figure.savefig(file, format=Path(path).suffix.lstrip(".") or "svg")
