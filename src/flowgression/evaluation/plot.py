"""A picture of an evaluation: where the features lie, and FID by class."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.evaluation.comparison import METRICS
from flowgression.evaluation.report import LABELS
from flowgression.evaluation.statistics import Statistics
from flowgression.files import atomic_write
from flowgression.text import without_formulas

MOST_POINTS = 2000
ENDINGS = (".png", ".svg", ".pdf")


def save_plot(report: Mapping[str, Any], samples: Statistics, reference: Statistics, path: str | Path) -> None:
    """Draw up to 2,000 images of each set in the plane of the reference's two largest variances, and FID by class.

    Raises:
        InputError: an ending other than .png, .svg or .pdf.
    """
    from matplotlib.figure import Figure

    path = Path(path)
    check_plot_name(path)
    per_class = report["fid_per_class"] or {}
    figure = Figure(figsize=(11 if per_class else 6, 5), layout="constrained")
    grid = figure.subplots(1, 2 if per_class else 1, squeeze=False)[0]
    _draw_plane(grid[0], samples, reference)
    if per_class:
        bars = grid[1].barh([without_formulas(name) for name in per_class], list(per_class.values()), color="tab:blue")
        grid[1].bar_label(bars, fmt="%.3g", padding=3)
        grid[1].set(xlabel="FID of the class", title="by class")
        grid[1].invert_yaxis()
        grid[1].margins(x=0.12)
    compared = " against ".join(without_formulas(report[name]) for name in ("samples", "reference"))
    figure.suptitle(f"{compared}\n{headline(report)}", fontsize=10)
    with atomic_write(path) as file:
        figure.savefig(file, format=path.suffix[1:], dpi=120)


def check_plot_name(path: Path) -> None:
    """InputError unless a picture can be written under this name."""
    if path.suffix not in ENDINGS:
        raise InputError(f"{path}: a plot ends with {', '.join(ENDINGS)}")


def headline(report: Mapping[str, Any]) -> str:
    """The metrics in one line: "FID 3.1 (2.9 to 3.3), KID ..."."""
    parts = []
    for name in METRICS:
        if report[name] is not None:
            interval = report[f"{name}_interval"]
            shown = f" ({interval[0]:.3g} to {interval[1]:.3g})" if interval else ""
            parts.append(f"{LABELS[name]} {report[name]:.3g}{shown}")
    return ", ".join(parts)


def _draw_plane(axes: Any, samples: Statistics, reference: Statistics) -> None:
    axes.set(title="features", xlabel="1st principal axis of the reference", ylabel="2nd")
    if reference.gaussian is None:
        axes.text(0.5, 0.5, "too few reference images", ha="center", transform=axes.transAxes)
        return
    plane = torch.linalg.eigh(reference.gaussian.covariance).eigenvectors[:, -2:].flip(1)

    def project(features: Tensor | None) -> tuple[Any, Any]:
        if features is None:
            return [], []
        x, y = ((features[:MOST_POINTS].double() - reference.gaussian.mean) @ plane).T  # type: ignore[union-attr]
        return x.numpy(), y.numpy()

    axes.scatter(*project(reference.kept), s=5, alpha=0.4, color="0.6", label="reference", linewidths=0)
    axes.scatter(*project(samples.kept), s=5, alpha=0.4, color="tab:orange", label="samples", linewidths=0)
    axes.legend(markerscale=3)
