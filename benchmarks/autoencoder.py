"""What the built-in autoencoder loses: python benchmarks/autoencoder.py [--images FOLDER] [--picture FILE.png]

On the crops of photographs of `python tools/pictures.py unseen`, which it was not trained on: PSNR (the mean over the
photographs of the mean over their crops; 95 % by resampling the photographs) at 64, 128 and 256 pixels, beside the
same pictures made small, so that no more numbers are left than in a latent, and large again. The picture: crops at 128
pixels, below each what became of it.
"""

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor

from flowgression.autoencoders.loading import load_vae
from flowgression.autoencoders.presets import BUILT_IN
from flowgression.data import DataConfig, open_dataset
from flowgression.sampling.images import make_grid, save_png
from flowgression.training.autoencoder import psnr, reconstructed

SIZES, SHOWN = (64, 128, 256), 128
COLUMNS = 8
RESAMPLED = 2000


def crops(folder: Path, size: int) -> tuple[Tensor, Tensor]:
    """The pictures float32 [N, 3, S, S] in [-1, 1], and the photograph that each was cut from, int64 [N]."""
    data = open_dataset(DataConfig(str(folder), image_size=size, channels=3))
    return data.batch(range(len(data)), [False] * len(data)), torch.as_tensor(data.labels)


def shrunk(images: Tensor, numbers: int) -> Tensor:
    """The pictures through bicubic copies of at most so many numbers."""
    side = int((numbers / images.shape[1]) ** 0.5)
    small = F.interpolate(images, size=side, mode="bicubic", antialias=True)
    return F.interpolate(small, size=images.shape[-1], mode="bicubic")


def judged(images: Tensor, photographs: Tensor, through: Callable[[Tensor], Tensor]) -> str:
    """PSNR in dB and its interval."""
    ratios = torch.stack([psnr(found[None], one[None]) for found, one in zip(through(images), images, strict=True)])
    means = torch.stack([ratios[photographs == photograph].mean() for photograph in photographs.unique()])
    random = torch.Generator().manual_seed(0)
    drawn = means[torch.randint(len(means), (RESAMPLED, len(means)), generator=random)].mean(1)
    low, high = drawn.quantile(torch.tensor([0.025, 0.975])).tolist()
    return f"{means.mean():.1f} [{low:.1f}, {high:.1f}]"


def table(folder: Path) -> Iterator[str]:
    """A row for each size."""
    network = load_vae(BUILT_IN)
    yield "| pictures | a latent | PSNR in dB | made small and large again |"
    yield "|---:|---:|---:|---:|"
    for size in SIZES:
        images, photographs = crops(folder, size)
        latent = network.encode(images[:1]).latent_dist.mean
        channels, side = latent.shape[1], latent.shape[-1]
        cells = (
            judged(images, photographs, lambda x: reconstructed(network, x)),
            judged(images, photographs, partial(shrunk, numbers=latent.numel())),
        )
        yield f"| {size} x {size} | {channels} x {side} x {side} | {' | '.join(cells)} |"


def draw(folder: Path, path: Path) -> None:
    """One crop of each photograph, below it what became of it."""
    images, photographs = crops(folder, SHOWN)
    first = torch.stack([images[photographs == photograph][0] for photograph in photographs.unique()])
    network, rows = load_vae(BUILT_IN), []
    for part in first.split(COLUMNS):
        blank = torch.ones(COLUMNS - len(part), *part.shape[1:])
        rows += [part, blank, reconstructed(network, part), blank]
    pixels = ((torch.cat(rows) + 1) * 127.5).round().clamp(0, 255).to(torch.uint8)
    save_png(make_grid(pixels.permute(0, 2, 3, 1).numpy(), columns=COLUMNS), path)


@torch.no_grad()
def main() -> int:
    """Print the table and draw the picture. Returns the exit status."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, default=Path("pictures/unseen"), help="folder (pictures/unseen)")
    parser.add_argument("--picture", type=Path, default=Path("docs/images/autoencoder.png"), help="(%(default)s)")
    args = parser.parse_args()
    for line in table(args.images):
        print(line, flush=True)
    draw(args.images, args.picture)
    return 0


if __name__ == "__main__":
    sys.exit(main())
