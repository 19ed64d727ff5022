"""Augmentation that does not leak into samples: each image is changed, and the network is told how.

The pipeline of EDM (arXiv 2206.00364, appendix F.2): every operation comes with the same probability, with a strength
of its own for each image, and the numbers that describe it go to the network as a condition. In sampling they are all
0, which is what images that were left as they are have.

B: rows, images or sequences whose images are changed alike; S: images of a sequence; C H W: channels and size.
"""

import math
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

AUGMENT_DIM = 13
"""Numbers that describe what was done to an image: flip, scale, turn (2), stretch (2), shift (2), brightness, contrast,
hue (2), saturation. All are 0 where nothing was."""
OPERATIONS = 9
SCALE, STRETCH, SHIFT = 0.2, 0.2, 0.125  # deviations: of powers of two, and of a share of the side
BRIGHTNESS, CONTRAST, SATURATION = 0.2, 0.5, 1.0  # deviations: of the range's half, and of powers of two


class Draws(NamedTuple):
    """What decides the augmentation of B rows.

    Attributes:
        on: [B, OPERATIONS], uniform in [0, 1): an operation comes where this is below the probability.
        turns: [B, 3], uniform in [0, 1): angles of the turn, of the stretch's axis and of the hue.
        strengths: [B, 7], standard normal: of scale, stretch, shift to the right and down, brightness, contrast,
            saturation.
    """

    on: Tensor
    turns: Tensor
    strengths: Tensor


@torch.no_grad()
def augment(images: Tensor, share: float, draws: Draws) -> tuple[Tensor, Tensor]:
    """Change images, each operation with probability `share`.

    Args:
        images: float [B, C, H, W] or [B, S, C, H, W] in [-1, 1], H = W. share: in [0, 1].

    Returns:
        The images, unchanged bit for bit where nothing was done, and what was done, float32 [B, AUGMENT_DIM].
    """
    on = (draws.on < share).float()
    colours = images.shape[-3] == 3
    on = on * torch.tensor([1.0] * 7 + [float(colours)] * 2, device=on.device)  # grey has neither hue nor saturation
    angle = (2 * draws.turns - 1) * math.pi
    scale, stretch, right, down, brightness, contrast, saturation = (
        part * on[:, index] for part, index in zip(draws.strengths.unbind(1), (1, 3, 4, 4, 5, 6, 8), strict=True)
    )
    turn, axis, hue = angle[:, 0] * on[:, 2], angle[:, 1], angle[:, 2] * on[:, 7]
    place = (on[:, 0], scale, turn.cos() - 1, turn.sin(), stretch * axis.cos(), stretch * axis.sin(), right, down)
    labels = torch.stack([*place, brightness, contrast, hue.cos() - 1, hue.sin(), saturation], dim=1)
    moved, coloured = (on[:, :5] > 0).any(1), (on[:, 5:] > 0).any(1)
    result = images.clone() if (moved | coloured).any() else images
    if moved.any():
        places = _places(on[:, 0], scale, turn, stretch, axis, right, down)
        result[moved] = _moved(result[moved], places[moved])
    if coloured.any():
        matrix = _colours(brightness, contrast, hue, saturation)
        result[coloured] = _coloured(result[coloured], matrix[coloured])
    return result, labels


def _places(
    flip: Tensor, scale: Tensor, turn: Tensor, stretch: Tensor, axis: Tensor, right: Tensor, down: Tensor
) -> Tensor:
    """[B, 2, 3]: where a place of the new image lies in the old one, in units of half the side. Arguments are [B]."""
    mirror = _diagonal(1 - 2 * flip, torch.ones_like(flip))
    smaller = torch.exp2(-SCALE * scale)
    longer = torch.exp2(STRETCH * stretch)
    linear = mirror @ _diagonal(smaller, smaller) @ _rotation(-turn)
    linear = linear @ _rotation(axis) @ _diagonal(1 / longer, longer) @ _rotation(-axis)
    shift = -2 * SHIFT * torch.stack([right, down], dim=1)[..., None]
    return torch.cat([linear, linear @ shift], dim=2)


def _diagonal(first: Tensor, second: Tensor) -> Tensor:
    return torch.diag_embed(torch.stack([first, second], dim=1))


def _rotation(angle: Tensor) -> Tensor:
    rows = [torch.stack([angle.cos(), -angle.sin()], dim=1), torch.stack([angle.sin(), angle.cos()], dim=1)]
    return torch.stack(rows, dim=1)


def _moved(images: Tensor, places: Tensor) -> Tensor:
    """[n, ..., C, H, W] at other places [n, 2, 3]; what lies outside is mirrored at the edge."""
    flat = images.flatten(1, -3)  # the images of a sequence as channels
    grid = F.affine_grid(places, list(flat.shape), align_corners=False)
    found = F.grid_sample(flat, grid, mode="bicubic", padding_mode="reflection", align_corners=False)
    return found.clamp(-1, 1).view_as(images)


def _colours(brightness: Tensor, contrast: Tensor, hue: Tensor, saturation: Tensor) -> Tensor:
    """[B, 3, 4]: the new colour as a matrix and an offset of the old one. Each argument is [B]."""
    grey = torch.full((3, 3), 1 / 3, device=hue.device)  # projects on the axis of greys
    cross = torch.tensor([[0.0, -1, 1], [1, 0, -1], [-1, 1, 0]], device=hue.device) / 3**0.5
    cos, sin, more = (each[:, None, None] for each in (hue.cos(), hue.sin(), torch.exp2(SATURATION * saturation)))
    around = grey + cos * (torch.eye(3, device=hue.device) - grey) + sin * cross  # Rodrigues' formula
    matrix = (grey + more * (torch.eye(3, device=hue.device) - grey)) @ around
    matrix = matrix * torch.exp2(CONTRAST * contrast)[:, None, None]
    return torch.cat([matrix, (BRIGHTNESS * brightness)[:, None, None].expand(-1, 3, 1)], dim=2)


def _coloured(images: Tensor, matrix: Tensor) -> Tensor:
    """[n, ..., C, H, W] in other colours, by [n, 3, 4]; grey images are taken as equal parts of all three."""
    flat = images.reshape(len(images), -1, *images.shape[-3:])
    if flat.shape[2] == 1:
        found = flat * matrix[:, :, :3].sum(2).mean(1)[:, None, None, None, None]
        found = found + matrix[:, 0, 3][:, None, None, None, None]
    else:
        found = torch.einsum("nij,nsjhw->nsihw", matrix[:, :, :3], flat) + matrix[:, None, :, 3, None, None]
    return found.clamp(-1, 1).reshape(images.shape)
