"""A network that names glyphs, trained on real ones: how legible drawn ones are. n images, H = W pixels."""

from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from flowgression.data.fonts.dataset import GlyphImages

WIDTHS = (1, 24, 48, 96, 128)
BATCH, RATE = 256, 4e-3


def make_classifier(size: int, classes: int) -> nn.Module:
    """Convolutions that halve the image, then one layer over what is left."""
    layers: list[nn.Module] = []
    for place, (before, after) in enumerate(pairwise(WIDTHS)):
        layers += [nn.Conv2d(before, after, 3, stride=1 + (place > 0), padding=1), nn.BatchNorm2d(after), nn.ReLU()]
    side = -(-size // 2 ** (len(WIDTHS) - 2))
    return nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(WIDTHS[-1] * side**2, classes))


def trained_classifier(dataset: GlyphImages, path: Path, passes: int) -> nn.Module:
    """The network, from `path` or trained on the data set, whose fonts may be changed in each pass, and kept there."""
    torch.manual_seed(0)
    model = make_classifier(dataset.image_size, dataset.num_classes)
    if path.is_file():
        model.load_state_dict(torch.load(path, weights_only=True))
        return model.eval()
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    steps = passes * (len(dataset) // BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps)
    random = np.random.default_rng(0)
    for number in range(passes):
        order = random.permutation(len(dataset))[: steps // passes * BATCH].reshape(-1, BATCH)
        for indices in order:
            images = dataset.items(indices.tolist(), [False] * BATCH, [number] * BATCH).float() / 255
            logits = model(images)
            loss = F.cross_entropy(logits, torch.from_numpy(dataset.labels[indices]), label_smoothing=0.05)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save(model.state_dict(), path)
    return model.eval()


@torch.no_grad()
def named(classifier: nn.Module, images: Tensor) -> Tensor:
    """The classes [n] of images [n, 1, H, W] in [0, 1], ink 1."""
    return torch.cat([classifier(part).argmax(-1) for part in images.split(500)])
