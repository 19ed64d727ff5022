"""Embeddings of time and position.

D: width, F: number of sinusoids, h w: rows and columns of the token grid, N = h * w.
"""

import math
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from flowgression.classes import Classes
from flowgression.errors import InputError
from flowgression.layers.weights import compute_dtype


def sinusoidal_features(t: Tensor, size: int, max_period: float = 10000.0) -> Tensor:
    """Sinusoids of `t` with geometrically falling frequencies: cosines first, then sines.

    Args:
        t: any shape, floating point; used as it is (a time in [0, 1] is not scaled).
        size: F, even.
        max_period: the longest period is 2 pi times this.

    Returns:
        [*t.shape, F], float32. (As in "Attention Is All You Need", section 3.5, in the order used by DiT.)
    """
    half = size // 2
    exponents = torch.arange(half, dtype=torch.float32, device=t.device) / half
    angles = t.float()[..., None] * torch.exp(-math.log(max_period) * exponents)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class TimestepEmbedder(nn.Module):
    """Sinusoids of the time, then Linear, SiLU, Linear. [*] -> [*, D]."""

    def __init__(self, hidden_size: int, frequency_size: int = 256):
        super().__init__()
        self.frequency_size = frequency_size
        self.mlp = nn.Sequential(nn.Linear(frequency_size, hidden_size), nn.SiLU(), nn.Linear(hidden_size, hidden_size))

    def forward(self, t: Tensor) -> Tensor:
        features = sinusoidal_features(t, self.frequency_size)
        return self.mlp(features.to(compute_dtype(self.mlp[0])))


class LabelEmbedder(nn.Module):
    """A learned vector per class, and one for the null label `num_classes`; see `embed_labels`."""

    def __init__(self, num_classes: int, hidden_size: int):
        super().__init__()
        self.embedding_table = nn.Embedding(num_classes + 1, hidden_size)

    def forward(self, class_labels: Tensor) -> Tensor:
        return embed_labels(self.embedding_table, class_labels)


def embed_labels(table: nn.Embedding, class_labels: Tensor) -> Tensor:
    """int64 [*] -> [*, D]; or weights of all rows of the table, floating [*, C + 1], -> their sum [*, D]."""
    if not class_labels.is_floating_point():
        return table(class_labels)
    rows = table(torch.arange(table.num_embeddings, device=class_labels.device))
    return class_labels.to(rows) @ rows


def augment_embedder(augment_dim: int, hidden_size: int) -> nn.Linear | None:
    """What turns the numbers that describe an augmentation into a condition; None for a model that is told of none.

    It has no bias and is to start from zero: of an image that nothing was done to, nothing is told.
    """
    if augment_dim < 0:
        raise InputError(f"augment_dim is {augment_dim}; it must be 0 (none) or more.")
    return nn.Linear(augment_dim, hidden_size, bias=False) if augment_dim else None


def embed_augment(embedder: nn.Linear | None, augment_labels: Tensor) -> Tensor:
    """[B, A] -> [B, D]. Raises InputError where the model is told of no augmentation, or by other numbers."""
    expected = 0 if embedder is None else embedder.in_features
    if embedder is None or augment_labels.ndim != 2 or augment_labels.shape[1] != expected:
        raise InputError(f"augment_labels must be [B, augment_dim = {expected}]; got {tuple(augment_labels.shape)}.")
    return embedder(augment_labels.to(compute_dtype(embedder)))


def label_places(known: Classes, wanted: Classes) -> list[int | None]:
    """Which row of a table for `known` each of the `wanted` classes starts from; None for a new class.

    A class is the one of the same name. Of a model that names none all rows are kept if they are as many.
    """
    if not known.are_named and len(known) == len(wanted):
        return list(range(len(wanted)))
    return wanted.places_in(known)


def label_rows(table: Tensor, places: Sequence[int | None]) -> Tensor:
    """A table of labels [C + 1, D] as one for other classes: [len(places) + 1, D].

    Rows are taken over where `places` says so, a new class starts from the mean of all, and the null label's row, the
    last one, stays.
    """
    mean = table[:-1].double().mean(0).to(table.dtype)
    return torch.stack([*(mean if place is None else table[place] for place in places), table[-1]])


def sincos_position_table(hidden_size: int, grid: tuple[int, int]) -> Tensor:
    """Fixed 2-D sine-cosine positions of MAE and DiT. Returns [1, N, D], float32.

    The first half of the channels encodes the column, the second half the row; each half holds sines, then
    cosines. Positions are float64 inside, as in the released tables.

    Raises:
        InputError: `hidden_size` is not divisible by 4.
    """
    if hidden_size % 4:
        raise InputError(f"hidden_size {hidden_size} must be divisible by 4 for 2-D sine-cosine positions.")
    quarter = hidden_size // 4
    frequencies = 10000.0 ** -(torch.arange(quarter, dtype=torch.float64) / quarter)
    rows, columns = torch.meshgrid(
        torch.arange(grid[0], dtype=torch.float64), torch.arange(grid[1], dtype=torch.float64), indexing="ij"
    )
    halves = [axis.reshape(-1, 1) * frequencies for axis in (columns, rows)]
    table = torch.cat([f(half) for half in halves for f in (torch.sin, torch.cos)], dim=1)
    return table[None].float()
