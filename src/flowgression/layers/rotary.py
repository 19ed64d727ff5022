"""2-D rotary positions for maps of several scales (RoFormer, arXiv 2104.09864, on two axes).

s: side of a map in tokens, T: tokens of all maps in question (sum of s^2), d: width of a head, A: heads, B: images.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowgression.errors import InputError


class Rotation(NamedTuple):
    """Cosines and sines of the angles, each [T, d]; the two members of a pair have the same angle.

    turn: the same as complex numbers [T, d / 2], by which a pair is multiplied at once; None: not made.
    """

    cos: Tensor
    sin: Tensor
    turn: Tensor | None = None


def rotary_frequencies(head_size: int, theta: float = 10000.0) -> Tensor:
    """Radians by which the pairs of channels of an axis turn from one position to the next: [d / 4], float64."""
    half = head_size // 2
    return theta ** -(torch.arange(0, half, 2, dtype=torch.float64) / half)


def rotary_angles(side: int, full_side: int, head_size: int, theta: float = 10000.0) -> Tensor:
    """Angles of an s x s map, [s^2, d], float64, tokens row by row.

    The first half of the channels turns with the row, the second with the column. Positions are stretched to the
    range of the finest map, `full_side`, so that the same place has nearly the same angle at every scale.

    Raises:
        InputError: `head_size` is not divisible by 4 (pairs of channels on two axes).
    """
    if head_size % 4:
        raise InputError(
            f"heads of width {head_size} cannot carry 2-D rotary positions: the width must be divisible by 4; "
            "choose another width or number of heads."
        )
    half, frequencies = head_size // 2, rotary_frequencies(head_size, theta)
    positions = torch.arange(side, dtype=torch.float64) / side * full_side
    axis = (positions[:, None] * frequencies).repeat_interleave(2, dim=-1)
    rows, columns = axis[:, None].expand(side, side, half), axis[None].expand(side, side, half)
    return torch.cat([rows, columns], dim=-1).reshape(side * side, head_size)


def apply_rotary(x: Tensor, rotation: Rotation) -> Tensor:
    """Turn the pairs (0, 1), (2, 3), ... of the last dimension. x [B, A, T, d] -> the same shape and dtype.

    Half precision is lifted to float32 inside.
    """
    wide = x if x.dtype == torch.float64 else x.float()
    if rotation.turn is not None:
        pairs = torch.view_as_complex(wide.unflatten(-1, (-1, 2)))
        return torch.view_as_real(pairs * rotation.turn).flatten(-2).to(x.dtype)
    even, odd = wide.unflatten(-1, (-1, 2)).unbind(-1)
    turned = torch.stack([-odd, even], dim=-1).flatten(-2)
    return (wide * rotation.cos + turned * rotation.sin).to(x.dtype)


class ScaleRotary(nn.Module):
    """The rotations of all scales of a model, kept as constant buffers (not in the state dict).

    Args:
        sides: increasing sides of the maps.
        head_size: d, divisible by 4.
    """

    cos: Tensor
    sin: Tensor

    def __init__(self, sides: Sequence[int], head_size: int):
        super().__init__()
        self.sides = tuple(sides)
        angles = torch.cat([rotary_angles(side, self.sides[-1], head_size) for side in self.sides])
        self.register_buffer("cos", angles.cos().float(), persistent=False)
        self.register_buffer("sin", angles.sin().float(), persistent=False)

    def forward(self, sides: Sequence[int]) -> Rotation:
        """The rotation of some neighbouring scales, coarse to fine."""
        first = self.sides.index(sides[0])
        start = sum(side**2 for side in self.sides[:first])
        stop = start + sum(side**2 for side in sides)
        cos, sin = self.cos[start:stop], self.sin[start:stop]
        # Compilers and exporters know no complex numbers, and fuse the formula.
        turn = None if torch.compiler.is_compiling() else torch.complex(cos[:, ::2].float(), sin[:, ::2].float())
        return Rotation(cos, sin, turn)
