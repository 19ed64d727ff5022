"""The log-log picture of measured complexity, with the theory's n^4 and n^2 beside it."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from flowgression.files import atomic_write
from flowgression.theory.complexity import Curve

FIGURES = {"seconds": "seconds", "flops": "FLOPs", "peak_bytes": "peak memory in bytes"}


def plot_complexity(curves: Sequence[Curve], path: Path, title: str) -> None:
    """One row per kind (one attention, whole models), one column per figure; PNG, SVG or PDF."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    kinds = list(dict.fromkeys(curve.kind for curve in curves))
    figure, grid = plt.subplots(
        len(kinds), len(FIGURES), figsize=(4.2 * len(FIGURES), 3.6 * len(kinds)), squeeze=False, layout="constrained"
    )
    for row, kind in zip(grid, kinds, strict=True):
        for axes, (name, label) in zip(row, FIGURES.items(), strict=True):
            _draw(axes, [curve for curve in curves if curve.kind == kind and curve.points], name)
            axes.set_title(f"{kind}: {label}", fontsize=10)
    figure.suptitle(title, fontsize=11)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix.removeprefix(".") or "png", dpi=130)
    plt.close(figure)


def _draw(axes: Any, curves: Sequence[Curve], name: str) -> None:
    for curve in curves:
        x, y = [p.side for p in curve.points], [getattr(p, name) for p in curve.points]
        exponent = curve.exponent(name)
        label = curve.name if exponent is None else f"{curve.name}: n^{exponent.value:.2f}"
        axes.loglog(x, y, "o-", markersize=3.5, label=label)
    for power, style in ((4, ":"), (2, "--")) if name != "peak_bytes" else ():  # the theory is about time
        _draw_theory(axes, curves, name, power, style)
    axes.set_xlabel("side n of the feature map")
    axes.legend(fontsize=7)


def _draw_theory(axes: Any, curves: Sequence[Curve], name: str, power: int, style: str) -> None:
    """n^power through the last point of the first curve of that theory."""
    ends = [curve.points for curve in curves if curve.theory == power]
    if not ends:
        return
    first, last = ends[0][0].side, ends[0][-1]
    start = getattr(last, name) * (first / last.side) ** power
    axes.loglog([first, last.side], [start, getattr(last, name)], style, color="#999999", label=f"n^{power}")
