"""How far the state of an ARFlow in sampling leaves what training showed it, and what reading less of the past does.

    python benchmarks/history.py --model arflow-mnist --num-images 1000 --steps 8 25 100

First the norm of the state (mean over images and blocks) after each image of a sequence as in training, and along
samplings of ever more steps. Then the FID of samples by what a denoising step reads: everything, nothing, each K-th
step or the last ones. Training ends at sequence_length images, sampling reads as many as it has steps.
"""

import argparse
import time

import torch
from rich.console import Console
from rich.table import Table
from torch import Tensor

from flowgression import load_pipeline
from flowgression.data.config import DataConfig
from flowgression.data.opening import open_dataset
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import open_image_set
from flowgression.evaluation.model import sample_and_measure
from flowgression.evaluation.report import flat_report
from flowgression.evaluation.statistics import collect
from flowgression.families.arflow.model import ARFlow

JUDGED = 100  # images whose states are measured


def norm_of(state: list[Tensor]) -> float:
    """Frobenius norm of a state, mean over blocks and images."""
    return float(torch.stack([part.flatten(1).norm(dim=1).mean() for part in state]).mean())


@torch.no_grad()
def norms_in_training(model: ARFlow, images: Tensor, length: int) -> list[float]:
    """Norm after each image of sequences of real images [B,C,H,W], at `length` times in falling order of noise."""
    random = torch.Generator().manual_seed(0)
    times = torch.rand(len(images), length, generator=random).sort(dim=1).values
    labels = torch.arange(len(images)) % model.config.num_classes
    state, found = model.new_state(len(images)), []
    for place in range(length):
        t = times[:, place : place + 1]
        noise = torch.randn(images.shape, generator=random)
        x = t[..., None, None] * images.roll(place * model.config.num_classes, 0) + (1 - t[..., None, None]) * noise
        state = model(x[:, None], t, labels, state).state
        found.append(norm_of(state))
    return found


@torch.no_grad()
def norms_in_sampling(model: ARFlow, shape: tuple[int, ...], steps: int) -> list[float]:
    """Norm after each of `steps` Euler steps, without guidance."""
    x = torch.randn(shape, generator=torch.Generator().manual_seed(0))
    labels = torch.arange(len(x)) % model.config.num_classes
    state, found = model.new_state(len(x)), []
    for step in range(steps):
        output = model(x[:, None], torch.full((len(x), 1), step / steps), labels, state)
        x, state = x + output.velocity[:, 0] / steps, output.state
        found.append(norm_of(state))
    return found


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="arflow-mnist")
    parser.add_argument("--num-images", type=int, default=1000)
    parser.add_argument("--steps", type=int, nargs="+", default=[8, 25])
    parser.add_argument("--histories", nargs="+", default=["all", "none", "every:5", "last:1"])
    parser.add_argument("--guidance-scale", type=float, default=1.25)
    parser.add_argument("--seeds", type=int, nargs="+", default=[1, 2, 3])
    args = parser.parse_args()
    console = Console(width=120)
    pipe = load_pipeline(args.model)
    pipe.set_progress_bar_config(disable=True)
    model = pipe.transformer
    norms(console, model, args.steps)
    extractor = load_extractor("mnist")
    reference = collect(open_image_set("mnist:test", 28), extractor, keep=5000)
    labels = [index % 10 for index in range(args.num_images)]
    table = Table("history", "steps", *(f"FID, seed {seed}" for seed in args.seeds), "mean", "processor time, s")
    for steps in args.steps:
        for history in args.histories:
            begin, fids = time.process_time(), []
            for seed in args.seeds:
                call = {"num_inference_steps": steps, "guidance_scale": args.guidance_scale, "history": history}
                images, cost = sample_and_measure(pipe, labels, call, model=args.model, seed=seed, batch_size=100)
                statistics = collect(images, extractor, keep=1000)
                fids.append(flat_report(compare(statistics, reference), statistics, reference, cost)["fid"])
            row = (history, str(steps), *(f"{fid:.3f}" for fid in fids), f"{sum(fids) / len(fids):.3f}")
            table.add_row(*row, f"{time.process_time() - begin:.0f}")
            console.print(*row)
    console.print(table)


def norms(console: Console, model: ARFlow, steps: list[int]) -> None:
    """Print the norms of states in training and in sampling."""
    data = open_dataset(DataConfig(path="mnist"))
    classes = model.config.num_classes
    by_class = [[i for i in range(2000) if int(data.labels[i]) == label] for label in range(classes)]
    chosen = [by_class[index % classes][index // classes] for index in range(JUDGED)]
    images = data.batch(chosen, [False] * JUDGED).float()
    length = model.config.sequence_length or 5
    trained = norms_in_training(model, images, length)
    console.print("training, after each image:", *(f"{value:.1f}" for value in trained))
    for count in steps:
        found = norms_in_sampling(model, tuple(images.shape), count)
        shown = sorted({min(count, place) for place in (1, 5, 10, 25, 50, 100, count)})
        console.print(f"sampling, {count} steps, after:", *(f"{n}: {found[n - 1]:.1f}" for n in shown))


if __name__ == "__main__":
    main()
