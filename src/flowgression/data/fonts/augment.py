"""Changes of glyphs that are the same for all characters of a font: new fonts out of old ones.

Slant, width, turn, a smooth warp, weight, and strokes as of a pen: blurred and made sharp again, which rounds corners,
with each letter a little unlike the others. Drawn letters are then nothing strange to a model.

Letters: n images, G fonts among them, H = W = size in pixels.
"""

from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

SLANT, TURN, WIDTH, WARP = 0.25, 0.06, 0.2, 0.04  # largest slant, turn in radians, change of width; warp's deviation
HAND_TURN, HAND_SHIFT, HAND_SIZE, HAND_WARP = 0.05, 0.03, 0.05, 0.03  # of each letter drawn by hand
HAND = 0.4  # share of the changed fonts that look drawn by hand
KNOTS = 4  # of the warp, along each side


class Changes(NamedTuple):
    """What is done to images, one row each.

    matrix: float32 [n, 2, 3], where a place of the new image lies in the old one, in units of half the side.
    warp: float32 [n, 2, KNOTS, KNOTS], what is added to that place, between the knots smoothly.
    weight: float32 [n], from -1 (thinner by up to two pixels) to 1 (as much bolder).
    hand: float32 [n], 1 for strokes as of a pen, else 0.
    """

    matrix: NDArray[np.float32]
    warp: NDArray[np.float32]
    weight: NDArray[np.float32]
    hand: NDArray[np.float32]


def draw_changes(
    share: float, keys: NDArray[np.int64], groups: NDArray[np.int64], indices: NDArray[np.int64]
) -> Changes:
    """The changes of images: a font is changed with probability `share`, in each epoch (key) in another way.

    Args:
        keys, groups, indices: int64 [n]. All but what tells letters drawn by hand apart depends on key and group
            alone; this depends on the index too.
    """
    count = len(keys)
    changes = Changes(
        np.tile(np.eye(2, 3, dtype=np.float32), (count, 1, 1)),
        np.zeros((count, 2, KNOTS, KNOTS), np.float32),
        np.zeros(count, np.float32),
        np.zeros(count, np.float32),
    )
    for key, group in set(zip(keys.tolist(), groups.tolist(), strict=True)):
        random = np.random.default_rng((key, group))
        if random.random() >= share:
            continue
        rows = np.flatnonzero((keys == key) & (groups == group))
        slant, turn, width = random.uniform(-1, 1, 3) * (SLANT, TURN, WIDTH)
        matrix = _affine(slant, turn, 1 + width)
        warp = random.standard_normal((2, KNOTS, KNOTS)) * WARP * random.random()
        weight = random.uniform(-0.8, 1)
        by_hand = random.random() < HAND
        changes.weight[rows], changes.hand[rows] = weight, by_hand
        for row in rows:
            changes.matrix[row, :, :2], changes.warp[row] = matrix, warp
            if by_hand:
                own = np.random.default_rng((key, group, int(indices[row]) + 1))
                size = 1 + own.uniform(-1, 1) * HAND_SIZE
                changes.matrix[row, :, :2] = matrix @ _affine(0, own.uniform(-1, 1) * HAND_TURN, 1) * size
                changes.matrix[row, :, 2] = own.uniform(-1, 1, 2) * HAND_SHIFT
                changes.warp[row] += own.standard_normal((2, KNOTS, KNOTS)) * HAND_WARP
    return changes


def _affine(slant: float, turn: float, width: float) -> NDArray[np.float64]:
    """[2, 2]: the inverse of stretching by `width`, slanting and turning, made smaller so that all still fits."""
    inverse = np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
    inverse = np.array([[1 / width, slant / width], [0, 1]]) @ inverse
    return inverse * max(1.0, width, 1 + abs(slant) / 2)


def change(images: Tensor, changes: Changes) -> Tensor:
    """uint8 [n, 1, H, W], ground 0 and ink 255 -> the changed images, uint8 like them."""
    matrix = torch.from_numpy(changes.matrix)
    moved = (matrix != torch.eye(2, 3)).flatten(1).any(1) | (torch.from_numpy(changes.warp) != 0).flatten(1).any(1)
    if not moved.any():
        return images
    result = images.clone()
    ink = images[moved].float() / 255
    size = list(ink.shape[-2:])
    places = F.affine_grid(matrix[moved], [len(ink), 1, *size], align_corners=False)
    warp = F.interpolate(torch.from_numpy(changes.warp)[moved], size=size, mode="bicubic", align_corners=True)
    ink = F.grid_sample(ink, places + warp.permute(0, 2, 3, 1), align_corners=False)
    hand = torch.from_numpy(changes.hand)[moved][:, None, None, None]
    ink = torch.lerp(ink, _rounded(ink), hand)
    ink = _weighted(ink, torch.from_numpy(changes.weight)[moved][:, None, None, None])
    result[moved] = (255 * ink).round().clamp(0, 255).to(torch.uint8)
    return result


def _rounded(ink: Tensor) -> Tensor:
    """Blurred by [1 2 4 2 1] / 10 each way and made sharp again: corners become round, gaps of a pixel close."""
    kernel = ink.new_tensor([1, 2, 4, 2, 1]) / 10
    blurred = F.conv2d(F.conv2d(ink, kernel.view(1, 1, 5, 1), padding=(2, 0)), kernel.view(1, 1, 1, 5), padding=(0, 2))
    return ((blurred - 0.5) * 2.5 + 0.55).clamp(0, 1)


def _weighted(ink: Tensor, weight: Tensor) -> Tensor:
    """Towards the largest (weight 1) or the smallest (-1) of the 3 x 3 pixels around each."""
    bold = F.max_pool2d(ink, 3, stride=1, padding=1)
    thin = -F.max_pool2d(-ink, 3, stride=1, padding=1)
    # A hairline must not vanish: what is thinned keeps at least a third of its ink.
    thin = torch.maximum(thin, ink / 3)
    return torch.where(
        weight > 0, torch.lerp(ink, bold, weight.clamp(min=0)), torch.lerp(ink, thin, -weight.clamp(max=0))
    )
