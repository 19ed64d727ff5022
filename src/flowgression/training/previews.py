"""Pictures of a run: sample grids with the EMA weights, and the curve of the loss."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from PIL import Image

from flowgression.files import atomic_write
from flowgression.sampling.images import make_grid, to_uint8
from flowgression.training.settings import PreviewConfig


def sample_grid(pipeline: Any, num_classes: int, config: PreviewConfig, seed: int) -> Image.Image:
    """A grid of generated images, the classes in turn; the same noise at every call, so that grids compare.

    Raises:
        FloatingPointError: the model gives values that are not finite.
    """
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        class_labels=list(islice(cycle(range(num_classes)), config.num_images)),
        **preview_call(pipeline, config),
        generator=[torch.Generator().manual_seed(seed + index) for index in range(config.num_images)],
        output_type="np",
    ).images
    # Small images are enlarged to about 64 pixels, so that one can look at them.
    columns = min(num_classes, 10) if num_classes > 1 else 8
    return make_grid(to_uint8(images), columns=columns, scale=max(1, 64 // images.shape[2]))


def preview_call(pipeline: Any, config: PreviewConfig) -> dict[str, Any]:
    """How `pipeline` is called for samples while training."""
    guided = pipeline.transformer.config.class_dropout_prob < 1
    return {
        "num_inference_steps": config.num_inference_steps,
        "guidance_scale": config.guidance_scale if guided else 1.0,
    }


def plot_loss(lines: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw the loss over the step from lines of metrics.jsonl, as it is and smoothed, and where they are there that of
    held-out images and FID, as a PNG.
    """
    from matplotlib.figure import Figure

    (steps, losses), held_out, fid = (column(lines, name) for name in ("loss", "held_out_loss", "fid"))
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    axes.plot(steps, losses, color="tab:blue", alpha=0.3)
    axes.plot(steps, smoothed(losses, reach=len(losses) // 50), color="tab:blue", label="training")
    curves = axes.get_lines()[-1:]
    if held_out[0]:
        curves += axes.plot(
            *held_out, color="tab:orange", marker="o", markersize=3, label="held-out images, EMA weights"
        )
    if fid[0]:
        right = axes.twinx()
        right.set(ylabel="FID", yscale="log")
        curves += right.plot(*fid, color="tab:green", marker="s", markersize=3, label="FID, right scale")
        plain(right)
    if len(curves) > 1:
        axes.legend(handles=curves)
    plain(axes)
    axes.grid(alpha=0.3, which="both")
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def column(lines: Sequence[Mapping[str, float]], name: str) -> tuple[list[float], list[float]]:
    """The steps at which `name` was measured, and its values."""
    found = [line for line in lines if name in line]
    return [line["step"] for line in found], [line[name] for line in found]


def plain(axes: Any) -> None:
    """Numbers of a logarithmic scale as they are, without powers of ten."""
    from matplotlib.ticker import StrMethodFormatter

    axes.yaxis.set_major_formatter(StrMethodFormatter("{x:g}"))
    axes.yaxis.set_minor_formatter(StrMethodFormatter("{x:g}"))


def smoothed(values: Sequence[float], reach: int) -> list[float]:
    """Each value's mean with up to `reach` neighbours on either side, as many on the one as on the other."""
    means = []
    for index in range(len(values)):
        near = min(reach, index, len(values) - 1 - index)
        means.append(fmean(values[index - near : index + near + 1]))
    return means
