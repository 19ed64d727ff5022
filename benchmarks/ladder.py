"""What the measure of the studies sees: FID and recall of real digits, damaged in ways that are known.

    python benchmarks/ladder.py

1,000 test digits a row, 100 of each class, against the 60,000 training digits, in the features of the built-in digit
classifier, as the studies of docs/results.md judge samples. A measure that ranks models must rank these first.
"""

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch
from torch import Tensor
from torch.nn.functional import avg_pool2d, pad

from flowgression.data.mnist import load_mnist
from flowgression.evaluation.comparison import compare
from flowgression.evaluation.features.registry import load_extractor
from flowgression.evaluation.images import ArrayImages
from flowgression.evaluation.statistics import collect

EACH, CLASSES = 100, 10
Damage = Callable[[Tensor, torch.Generator], Tensor]
"""Images [10, N, 28, 28] in 0 to 1, by class, and chance; more than are kept."""


def halves(images: Tensor, generator: torch.Generator) -> Tensor:
    """The lower half of another digit of the class."""
    other = images[:, torch.randperm(images.shape[1], generator=generator)]
    return torch.cat([images[:, :, :14], other[:, :, 14:]], dim=2)


def strangers(images: Tensor, generator: torch.Generator) -> Tensor:
    """The lower half of a digit of the next class."""
    return torch.cat([images[:, :, :14], images.roll(1, dims=0)[:, :, 14:]], dim=2)


def blurred(images: Tensor, generator: torch.Generator) -> Tensor:
    return avg_pool2d(pad(images.flatten(0, 1)[:, None], (1, 1, 1, 1)), 3, stride=1)[:, 0].view_as(images)


LADDER: dict[str, Damage] = {
    "real digits": lambda images, generator: images,
    "shifted by one pixel": lambda images, generator: images.roll(1, dims=3),
    "noise, 0.1 of white": lambda images, generator: images + 0.1 * torch.randn(images.shape, generator=generator),
    "noise, 0.3 of white": lambda images, generator: images + 0.3 * torch.randn(images.shape, generator=generator),
    "blurred, 3 x 3": blurred,
    "ink at 0.7": lambda images, generator: 0.7 * images,
    "lower half of another digit of the class": halves,
    "lower half of a digit of the next class": strangers,
    "without the nine, eights in its place": lambda images, generator: torch.cat(
        [images[:9], images[8:9].roll(EACH, 1)]
    ),
    "ten digits of each class, each ten times": lambda images, generator: images[:, : EACH // 10].repeat(1, 10, 1, 1),
}


def rows() -> Iterator[str]:
    extractor = load_extractor("mnist")
    reference = collect(ArrayImages("train", load_mnist("train").images[..., None]), extractor)
    test, labels = load_mnist("test")
    order = np.random.default_rng(0).permutation(len(labels))
    by_class = torch.stack(
        [torch.from_numpy(test[order[labels[order] == label][: 2 * EACH]]) for label in range(CLASSES)]
    )
    yield "| test digits | FID | precision | recall |"
    yield "|---|---:|---:|---:|"
    for name, damage in LADDER.items():
        made = damage(by_class.float() / 255, torch.Generator().manual_seed(0))[:, :EACH].flatten(0, 1)
        images = (made.clamp(0, 1) * 255).round().byte().numpy()[..., None]
        found = compare(collect(ArrayImages(name, images), extractor), reference, num_replicates=0).estimates
        yield f"| {name} | {found['fid'].value:.2f} | {found['precision'].value:.2f} | {found['recall'].value:.2f} |"


def main() -> None:
    argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter).parse_args()
    torch.set_num_threads(1)
    for line in rows():
        print(line, flush=True)


if __name__ == "__main__":
    main()
