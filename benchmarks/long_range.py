"""Do pixels far apart belong together? Two-point correlations of samples against those of real digits.

    python benchmarks/long_range.py                   # the ladder of damaged digits, then the built-in models
    python benchmarks/long_range.py --models          # the ladder alone
    python benchmarks/long_range.py --models runs/mine --images 1000

The paper of ARFlow says that long-range dependencies are hard for flow models. Measured is what pixels of an image tell
about each other: their covariance over images of one class. For the pairs of one band of distances

    D = sum (C_samples - C_real)^2 / sum C_real^2        over pairs of the band, and over classes,

is 0 for images whose pairs covary as those of the 60,000 training digits, and 1 where they do not covary at all. It is
estimated without bias, as the product of the differences of two halves of the samples: it can fall below 0 by chance.
Rows are sets of as many images, each with noise of its own; intervals are Student's t over the sets.

The ladder is of test digits. Those whose lower half is of another digit of their class keep what near pixels tell, and
lose what far ones do; blurred ones lose it at every distance; noise of each pixel for itself changes no pair.
"""

import argparse
import math
from collections.abc import Callable, Iterator, Sequence
from functools import partial
from statistics import fmean, stdev

import numpy as np
import torch
from scipy.stats import t
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from flowgression import load_pipeline
from flowgression.data.mnist import load_mnist
from flowgression.sampling.batches import sample_batches

BANDS = {"1 to 3": (0.5, 3.5), "4 to 9": (3.5, 9.5), "10 to 14": (9.5, 14.5), "15 and more": (14.5, math.inf)}
SIDE, CLASSES = 28, 10
BATCH = 100
Damage = Callable[[Tensor, torch.Generator], Tensor]
"""Images [N, 28, 28] of one class, and chance."""


def distances() -> Tensor:
    """[784, 784]: of two pixels, from centre to centre."""
    rows, columns = torch.meshgrid(torch.arange(SIDE), torch.arange(SIDE), indexing="ij")
    places = torch.stack([rows, columns], -1).flatten(0, 1).double()
    return torch.cdist(places, places)


def masks() -> dict[str, Tensor]:
    """By band, which pairs [784, 784] are of it."""
    between = distances()
    return {band: (between >= low) & (between < high) for band, (low, high) in BANDS.items()}


def covariances(images: Tensor, labels: Tensor) -> Tensor:
    """[10, 784, 784], of the pixels of images [N, 28, 28] over those of each class; at least two of each."""
    found = []
    for label in range(CLASSES):
        own = images[labels == label].flatten(1).double()
        own = own - own.mean(0)
        found.append(own.mT @ own / (len(own) - 1))
    return torch.stack(found)


def errors(images: Tensor, labels: Tensor, truth: Tensor, bands: dict[str, Tensor]) -> dict[str, float]:
    """D of every band; the halves are every second image of each class."""
    turn = torch.zeros_like(labels)
    for label in range(CLASSES):
        own = labels == label
        turn[own] = torch.arange(int(own.sum())) % 2
    first, second = (covariances(images[turn == half], labels[turn == half]) - truth for half in (0, 1))
    product, square = (first * second).sum(0), truth.square().sum(0)
    return {band: (product[mask].sum() / square[mask].sum()).item() for band, mask in bands.items()}


def mixed(share: float, cuts: Sequence[int]) -> Damage:
    """So many of the images get the strips of rows between `cuts` each from another image of the class."""

    def damage(images: Tensor, generator: torch.Generator) -> Tensor:
        count = round(share * len(images))
        result = images.clone()
        bounds = [0, *cuts, SIDE]
        for strip in range(1, len(bounds) - 1):
            rows = slice(bounds[strip], bounds[strip + 1])
            result[:count, rows] = images[torch.randperm(len(images), generator=generator)[:count], rows]
        return result

    return damage


def noisy(images: Tensor, generator: torch.Generator) -> Tensor:
    return images + 0.3 * torch.randn(images.shape, generator=generator)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    return avg_pool2d(pad(images[:, None], (1, 1, 1, 1)), 3, stride=1)[:, 0]


LADDER: dict[str, Damage] = {
    "real test digits": lambda images, generator: images,
    "noise of each pixel for itself, 0.3 of white": noisy,
    "blurred, 3 x 3": blurred,
    "lower half of another digit of the class, in 25 %": mixed(0.25, [14]),
    "the same in 50 %": mixed(0.5, [14]),
    "the same in all": mixed(1.0, [14]),
    "four strips of four digits of the class": mixed(1.0, [7, 14, 21]),
}


def damaged(damage: Damage, count: int, index: int) -> tuple[Tensor, Tensor]:
    """Set `index` of `count` test digits, as many of each class, and their labels; neighbours share a writer."""
    images, labels = load_mnist("test")
    order = np.random.default_rng(0).permutation(len(labels))
    each, parts, generator = count // CLASSES, [], torch.Generator().manual_seed(index)
    for label in range(CLASSES):
        own = order[labels[order] == label][index * each : (index + 1) * each]
        parts.append(damage(torch.from_numpy(images[own]).float() / 255, generator))
    return torch.cat(parts), torch.arange(CLASSES).repeat_interleave(each)


def drawn(pipe: object, settings: dict[str, object], count: int, index: int) -> tuple[Tensor, Tensor]:
    """Set `index` of `count` samples, and their labels."""
    labels = [number % CLASSES for number in range(count)]
    batches = sample_batches(pipe, labels, settings, seed=index * count, batch_size=BATCH, shown=False)
    images = np.concatenate([batch.images for batch in batches])
    return torch.from_numpy(images)[..., 0].float() / 255, torch.tensor(labels)


def cell(values: Sequence[float]) -> str:
    """Mean and 95 % interval over sets."""
    if len(values) < 2:
        return f"{values[0]:.3f}"
    half = float(t.ppf(0.975, len(values) - 1)) * stdev(values) / math.sqrt(len(values))
    return f"{fmean(values):.3f} [{fmean(values) - half:.3f}, {fmean(values) + half:.3f}]"


def row(title: str, make: Callable[[int], tuple[Tensor, Tensor]], sets: int, truth: Tensor, bands: dict) -> str:
    found = [errors(*make(index), truth, bands) for index in range(sets)]
    return f"| {title} | " + " | ".join(cell([each[band] for each in found]) for band in bands) + " |"


def rows(args: argparse.Namespace) -> Iterator[str]:
    images, labels = load_mnist("train")
    bands = masks()
    truth = covariances(torch.from_numpy(images).float() / 255, torch.from_numpy(labels))
    yield f"| error of covariance, pixels apart | {' | '.join(bands)} |"
    yield "|---|" + "---:|" * len(bands)
    for title, damage in LADDER.items():
        yield row(title, partial(damaged, damage, args.images), args.sets, truth, bands)
    for name in args.models:
        pipe = load_pipeline(name)
        pipe.set_progress_bar_config(disable=True)
        settings: dict[str, object] = {"num_inference_steps": args.steps, "guidance_scale": args.guidance}
        yield row(f"`{name}`", partial(drawn, pipe, settings, args.images), args.sets, truth, bands)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--models", nargs="*", default=["arflow-mnist", "sit-mnist"])
    parser.add_argument("--sets", type=int, default=5, help="sets of images, for the intervals")
    parser.add_argument("--images", type=int, default=300, help="of a set")
    parser.add_argument("--steps", type=int, default=25, help="Euler steps, the same for all models")
    parser.add_argument("--guidance", type=float, default=1.0, help="1: none, which makes images of a class less alike")
    args = parser.parse_args()
    torch.set_num_threads(1)
    for line in rows(args):
        print(line, flush=True)


if __name__ == "__main__":
    main()
