"""The plots of a study: FID against steps, guidance, time and FLOPs, mean and range over the seeds."""

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from flowgression.files import atomic_write
from flowgression.study.config import StudyConfig
from flowgression.study.grid import Point
from flowgression.study.results import Results, Summary, read_real
from flowgression.text import without_formulas

Chosen = Callable[[Point, Point], bool]
"""Whether a point belongs to a curve, given the main point."""


def save_plots(config: StudyConfig, results: Results, out: Path) -> list[tuple[str, str]]:
    """Draw all plots that have something to show; returns titles and file names."""
    plots: list[tuple[str, str, Chosen, Callable[[Summary], float], dict[str, Any]]] = [
        ("FID against steps", "fid-steps.png", _same_but_steps, lambda one: one.point["num_inference_steps"],
         {"xlabel": "steps (of FlowAR: at each scale)", "xscale": "log"}),
        ("FID against guidance", "fid-guidance.png", _same_but_guidance, lambda one: one.point["guidance_scale"],
         {"xlabel": "guidance scale"}),
        ("FID against time", "fid-time.png", _same_but_steps, lambda one: 1000 / one.mean["cost_images_per_second"],
         {"xlabel": "milliseconds an image", "xscale": "log"}),
        ("FID against FLOPs", "fid-flops.png", _same_but_steps,
         lambda one: one.mean["cost_flops_per_image"] / 1e6, {"xlabel": "MFLOP an image", "xscale": "log"}),
    ]  # fmt: skip
    saved = []
    for title, name, chosen, x, axes in plots:
        curves = {
            model: sorted((one for one in results.of(model) if chosen(one.point, config.main_point)), key=x)
            for model in config.models
        }
        if any(len(points) > 1 for points in curves.values()):
            _draw(config, curves, x, axes, title, out / name)
            saved.append((title, name))
    return saved


def _same_but_steps(point: Point, main: Point) -> bool:
    return point.but(num_inference_steps=main["num_inference_steps"]) == main


def _same_but_guidance(point: Point, main: Point) -> bool:
    return point.but(guidance_scale=main["guidance_scale"]) == main


def _draw(
    config: StudyConfig,
    curves: dict[str, list[Summary]],
    x: Callable[[Summary], float],
    axes: dict[str, Any],
    title: str,
    path: Path,
) -> None:
    from matplotlib import colormaps
    from matplotlib.figure import Figure
    from matplotlib.ticker import LogLocator, NullFormatter, StrMethodFormatter

    groups = config.groups or {"": list(config.models)}
    figure = Figure(figsize=(max(6.5, 4.6 * len(groups)), 4.4), layout="constrained")
    panels: Sequence[Any] = figure.subplots(1, len(groups), sharey=True, squeeze=False)[0]
    colours = {model: colormaps["tab10"](index % 10) for index, model in enumerate(config.models)}
    real = read_real(config)
    for panel, (name, models) in zip(panels, groups.items(), strict=True):
        for model in models:
            points = curves[model]
            if points:
                panel.errorbar(
                    [x(one) for one in points],
                    [one.mean["fid"] for one in points],
                    yerr=[one.spread["fid"] for one in points] if len(config.seeds) > 1 else None,
                    marker="o", markersize=4, capsize=3, color=colours[model], label=without_formulas(model),
                )  # fmt: skip
        if real is not None:
            panel.axhline(real["fid"], color="0.5", linestyle=":", label="real images")
        panel.set(title=without_formulas(name), yscale="log", **axes)
        panel.grid(alpha=0.3)
        for axis, is_log in ((panel.yaxis, True), (panel.xaxis, axes.get("xscale") == "log")):
            if is_log:
                axis.set_major_locator(LogLocator(subs=(1, 2, 5)))
                axis.set_major_formatter(StrMethodFormatter("{x:g}"))
                axis.set_minor_formatter(NullFormatter())
        panel.legend(fontsize=8)
    panels[0].set_ylabel("FID")
    over = f", mean and standard deviation over {len(config.seeds)} seeds" if len(config.seeds) > 1 else ""
    figure.suptitle(f"{title}: {config.num_images} samples{over}")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=110)
