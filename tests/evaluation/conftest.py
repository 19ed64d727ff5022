"""Gaussian features without images, and tiny image files."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from flowgression.evaluation import Statistics, collect
from flowgression.evaluation.features.base import Extractor, ExtractorInfo
from flowgression.evaluation.images import ArrayImages


class Rows(nn.Module):
    """Looks features up by the index that is written into an image's pixels: feature rows as given, logits or not."""

    def __init__(self, features: Tensor, logits: Tensor | None = None) -> None:
        super().__init__()
        self.features, self.logits = features, logits

    def forward(self, images: Tensor) -> Any:
        index = (images.flatten(1).long() * torch.tensor([1, 256])).sum(1)
        rows = self.features[index]
        return rows if self.logits is None else (rows, self.logits[index])


def statistics_of(features: Tensor, logits: Tensor | None = None, labels: Any = None, **options: Any) -> Statistics:
    """What `collect` gives for images with these features [n,D]."""
    number = np.arange(len(features))
    images = np.stack([number % 256, number // 256], axis=1).astype(np.uint8).reshape(-1, 1, 2, 1)
    extractor = Extractor(Rows(features, logits), ExtractorInfo("rows", "0", "none"))
    return collect(ArrayImages("rows", images, labels), extractor, **{"batch_size": 97, **options})


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """An npz of 40 digits with labels."""
    from flowgression.data import load_mnist

    images, labels = load_mnist("test")
    path = tmp_path / "digits.npz"
    np.savez_compressed(path, arr_0=images[:40, :, :, None], labels=labels[:40])
    return path
