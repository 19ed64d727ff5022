"""Names glyphs by the real ones that are most like them: how legible drawn glyphs are.

Outlines as histograms of directions (Dalal and Triggs, 2005), the directions of these that tell characters apart
(Fisher's discriminants), and a vote of the nearest real glyphs. No training, so nothing of it depends on a seed.

n images, N real glyphs, H = W pixels, D features, d discriminants.
"""

import math
from pathlib import Path
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from flowgression.data.fonts.dataset import GlyphImages

DIRECTIONS, CELLS, KEPT, NEAREST = 8, 8, 40, 7
ALIKE = ("Il1", "Oo0", "Cc", "Ss", "Vv", "Ww", "Xx", "Zz", "Uu", "Pp", "Kk")
"""Characters that many fonts draw alike, or alike but for the size: to name one is to name the other."""


class Classifier(NamedTuple):
    """The real glyphs.

    mean: [D]. directions: [D, d]. places: [N, d]. kinds: int64 [N] and of_labels: int64 [classes], the same number for
    characters that are ALIKE.
    """

    mean: Tensor
    directions: Tensor
    places: Tensor
    kinds: Tensor
    of_labels: Tensor

    def right(self, images: Tensor, labels: Tensor) -> Tensor:
        """Whether each of the images [n, 1, H, W] in [0, 1], ink 1, is named by its label [n]: bool [n]."""
        found = []
        for part in images.split(500):
            away = torch.cdist((features(part) - self.mean) @ self.directions, self.places)
            near, which = away.topk(NEAREST, largest=False)
            votes = torch.zeros(len(part), int(self.of_labels.max()) + 1)
            votes.scatter_add_(1, self.kinds[which], torch.exp(near[:, :1] - near))
            found.append(votes.argmax(1))
        return torch.cat(found) == self.of_labels[labels]


def features(images: Tensor) -> Tensor:
    """Images [n, 1, H, W] in [0, 1] -> histograms of the directions of their slopes, [n, D]."""
    x = 0.3 * images + 0.7 * F.avg_pool2d(F.pad(images, (1, 1, 1, 1)), 3, 1)
    across = x[:, :, 1:-1, 2:] - x[:, :, 1:-1, :-2]
    down = x[:, :, 2:, 1:-1] - x[:, :, :-2, 1:-1]
    size = torch.hypot(across, down)
    direction = torch.atan2(down, across) / (2 * math.pi) * DIRECTIONS
    lower = direction.floor()
    part, lower = direction - lower, lower.long() % DIRECTIONS
    histogram = torch.zeros(len(images), DIRECTIONS, *size.shape[2:])
    histogram.scatter_add_(1, lower, size * (1 - part)).scatter_add_(1, (lower + 1) % DIRECTIONS, size * part)
    cells = F.adaptive_avg_pool2d(F.avg_pool2d(F.pad(histogram, (1, 1, 1, 1)), 6, 3), CELLS).flatten(1)
    return (cells / (cells.norm(dim=1, keepdim=True) + 0.1) + 1e-6).sqrt()


def classifier_of(dataset: GlyphImages, path: Path | None = None) -> Classifier:
    """The classifier of a data set's glyphs; kept at `path`, and read from there."""
    if path is not None and path.is_file():
        return Classifier(**torch.load(path, weights_only=True))
    images = torch.cat([dataset.pixels(part.tolist()) for part in torch.arange(len(dataset)).split(2000)])
    found = torch.cat([features(part.float() / 255) for part in images.split(2000)])
    groups = {character: index for index, group in enumerate(ALIKE) for character in group}
    of_labels = torch.tensor([groups.get(name, len(ALIKE) + index) for index, name in enumerate(characters(dataset))])
    of_labels = of_labels.unique(return_inverse=True)[1]
    kinds = of_labels[torch.from_numpy(dataset.labels)]
    mean = found.mean(0)
    means = torch.stack([found[kinds == kind].mean(0) for kind in range(int(of_labels.max()) + 1)])
    within = found - means[kinds]
    covariance = within.T @ within / len(found)
    covariance += 1e-3 * covariance.diagonal().mean() * torch.eye(len(covariance))
    root = torch.linalg.cholesky(covariance)
    whitened = torch.linalg.solve_triangular(root, (means - mean).T, upper=False).T
    best = torch.linalg.svd(whitened, full_matrices=False)[2][:KEPT]
    directions = torch.linalg.solve_triangular(root.T, best.T, upper=True)
    made = Classifier(mean, directions, (found - mean) @ directions, kinds, of_labels)
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
        torch.save(made._asdict(), path)
    return made


def characters(dataset: GlyphImages) -> list[str]:
    """What each class of the data set shows."""
    from flowgression.data.fonts.dataset import character_of

    return [character_of(name) or name for name in dataset.class_names]
