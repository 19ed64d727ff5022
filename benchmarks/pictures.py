"""What learns fast from a folder of colour pictures: networks compared at equal processor time.

    python benchmarks/pictures.py DIR [--minutes 2] [--size 32] [--only NAME ...] [--out FOLDER]

Each trains on nine tenths of the pictures, on one thread, and is judged on the last tenth: the loss of the velocity
over all times, the same noise for all, an error in t > 0.95 counting as at 0.95. Lower is better; figures of other
pictures do not compare. With --out each leaves a picture of samples.
"""

import argparse
import sys
import time
from dataclasses import replace
from datetime import date
from itertools import cycle, islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from flowgression.data.config import DataConfig
from flowgression.data.dataset import MemoryImages
from flowgression.flow.losses import flow_matching_loss
from flowgression.flow.paths import get_path
from flowgression.flow.sequence import noise_at
from flowgression.sampling.images import make_grid, save_png, to_uint8
from flowgression.sampling.loading import make_pipeline
from flowgression.training.automatic import recipe
from flowgression.training.config import TrainConfig
from flowgression.training.length import RunLength
from flowgression.training.nested import config_from_dict
from flowgression.training.step import training_step
from flowgression.training.trainer import Trainer

VARIANTS: dict[str, dict[str, Any]] = {
    "velocity, patches of 4": {"prediction_type": "velocity", "patch_size": 4, "refine_width": 0},
    "image, patches of 4": {"patch_size": 4, "refine_width": 0},
    "image, patches of 4, seams smoothed": {"patch_size": 4},
    "velocity, patches of 8": {"prediction_type": "velocity", "patch_size": 8, "refine_width": 0},
    "image, patches of 8": {"patch_size": 8, "refine_width": 0},
    "image, patches of 8, seams smoothed": {"patch_size": 8},
}
HELD_OUT = 10  # every tenth picture


def trainer_of(folder: str, size: int, minutes: float, args: dict[str, Any]) -> tuple[Trainer, MemoryImages]:
    """A run on nine tenths of the pictures, and the rest."""
    values = recipe()
    values["model"]["args"] |= args
    config = config_from_dict(TrainConfig, {**values, "minutes": minutes, "clock": "processor", "num_threads": 1})
    config = replace(config, data=DataConfig(folder, image_size=size, channels=3), tracker="none", device="cpu")
    trainer = Trainer(config)
    everything = trainer.dataset
    held_out = np.arange(len(everything)) % HELD_OUT == 0
    trainer.dataset, rest = (_part(everything, np.flatnonzero(kept)) for kept in (~held_out, held_out))
    return trainer, rest


def _part(data: Any, kept: np.ndarray) -> MemoryImages:
    return MemoryImages(data.pixels(kept.tolist()).numpy(), data.labels[kept], data.classes, data.channels)


def train(trainer: Trainer) -> int:
    """As many steps as fit into the run's minutes; returns their number."""
    length, step = RunLength(trainer.config), 0
    batches = trainer.batches(0)
    while not length.is_over(step):
        training_step(trainer, step, next(batches), length=length)
        step += 1
    return step


@torch.no_grad()
def held_out_loss(model: Any, data: MemoryImages) -> float:
    """See above."""
    images, labels = data.batch(range(len(data)), [False] * len(data)), torch.from_numpy(data.labels)
    generator = torch.Generator().manual_seed(0)
    t = ((torch.arange(len(images)) + 0.5) / len(images))[torch.randperm(len(images), generator=generator)]
    noised = noise_at(images, torch.randn(images.shape, generator=generator), t, path=get_path("linear"))
    weight = ((1 - t) / 0.05).clamp(max=1).square()
    return flow_matching_loss(model(noised.x_t, t, labels).velocity, noised.target, weight=weight).item()


def draw(model: Any, classes: Any, path: Path) -> None:
    """Samples, the classes in turn, eight of each in a column."""
    pipe = make_pipeline(model, id2label=classes.id2label())
    pipe.set_progress_bar_config(disable=True)
    labels = list(islice(cycle(range(len(classes))), 8 * len(classes)))
    generators = [torch.Generator().manual_seed(seed) for seed in range(len(labels))]
    found = pipe(labels, num_inference_steps=20, guidance_scale=2.0, generator=generators, output_type="np").images
    save_png(make_grid(to_uint8(found), columns=len(classes), scale=2), path)


def main() -> int:
    """Train, judge and print. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data")
    parser.add_argument("--minutes", type=float, default=2.0)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--only", nargs="+", choices=VARIANTS, default=list(VARIANTS))
    parser.add_argument("--out", type=Path)
    args = parser.parse_args()
    table = Table(
        "network", "parameters", "steps", "held-out loss", title=f"{args.data}, {args.minutes:g} minutes each"
    )
    for name in args.only:
        trainer, rest = trainer_of(args.data, args.size, args.minutes, VARIANTS[name])
        begin = time.process_time()
        steps = train(trainer)
        model = trainer.ema_model().eval()
        loss = held_out_loss(model, rest)
        size = sum(parameter.numel() for parameter in model.parameters())
        table.add_row(name, f"{size:,}", str(steps), f"{loss:.3f}")
        print(f"{name}: {steps} steps, {time.process_time() - begin:.0f} s, {loss:.3f}", file=sys.stderr, flush=True)
        if args.out:
            draw(model, trainer.dataset.classes, args.out / f"{name.replace(', ', '-').replace(' ', '-')}.png")
    Console().print(table)
    print(f"one thread, {torch.backends.cpu.get_cpu_capability()}, torch {torch.__version__}, {date.today()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
