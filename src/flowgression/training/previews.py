"""Pictures of a run: sample grids with the averaged weights, and the curve of the loss."""

from collections.abc import Mapping, Sequence
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from flowgression.files import atomic_write
from flowgression.training.config import PreviewConfig


def sample_grid(pipeline: Any, num_classes: int, config: PreviewConfig, seed: int) -> Image.Image:
    """A grid of generated images, the classes in turn; the same noise at every call, so that grids compare."""
    pipeline.set_progress_bar_config(disable=True)
    images = pipeline(
        class_labels=list(islice(cycle(range(num_classes)), config.num_images)),
        num_inference_steps=config.num_inference_steps,
        guidance_scale=config.guidance_scale,
        generator=[torch.Generator().manual_seed(seed + index) for index in range(config.num_images)],
    ).images
    return image_grid(images, columns=min(num_classes, 10, config.num_images))


def image_grid(images: Sequence[Image.Image], columns: int) -> Image.Image:
    """Images of equal size in rows of `columns`, two pixels apart."""
    gap = 2
    width, height = images[0].size
    rows = -(-len(images) // columns)
    grid = Image.new(images[0].mode, (columns * (width + gap) - gap, rows * (height + gap) - gap))
    for index, image in enumerate(images):
        row, column = divmod(index, columns)
        grid.paste(image, (column * (width + gap), row * (height + gap)))
    return grid


def save_picture(image: Image.Image, path: Path) -> None:
    """Write a PNG, whole or not at all."""
    with atomic_write(path) as file:
        image.save(file, format="PNG")


def plot_loss(lines: Sequence[Mapping[str, float]], path: Path) -> None:
    """Draw the loss of the lines of metrics.jsonl over the step, each point with a running mean, as a PNG."""
    from matplotlib.figure import Figure

    steps = [line["step"] for line in lines]
    losses = [line["loss"] for line in lines]
    figure = Figure(figsize=(7, 4), layout="constrained")
    axes = figure.add_subplot(xlabel="step", ylabel="loss", yscale="log")
    axes.plot(steps, losses, color="tab:blue", alpha=0.3)
    axes.plot(steps, _running_mean(losses), color="tab:blue")
    axes.grid(alpha=0.3)
    with atomic_write(path) as file:
        figure.savefig(file, format="png", dpi=120)


def _running_mean(values: Sequence[float], weight: float = 0.9) -> list[float]:
    means: list[float] = []
    total = norm = 0.0
    for value in values:
        total = weight * total + value
        norm = weight * norm + 1.0
        means.append(total / norm)
    return means
