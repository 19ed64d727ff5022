"""Maps of several scales: cutting a latent into them, and the way from one scale to the next.

B: images, C: channels, P: patch size, K: scales with sides s_1 < ... < s_K counted in patches, H = s_K * P: side of the
latent. The map of scale k is an image of side s_k * P; as tokens it is [B, s_k^2, P * P * C].

**Patches.** A coarse map is an area down-sampling of the latent itself, to s_k * P, which is then cut into patches.
Packing P x P neighbours into channels first and averaging those would also shrink a map, but badly: a channel of the
packed map holds every P-th value of the latent, so its average is aliased, all P * P channels of a coarse token say
nearly the same, and enlarging it again blurs each phase on its own. Down-sampling first makes every coarse map an
honest thumbnail with P * P different values per token, and for P = 1 both are the same, as in the released model.
"""

from collections.abc import Sequence
from itertools import pairwise

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flowgression.errors import InputError
from flowgression.layers.patches import unpatchify


def check_scales(scales: Sequence[int], sample_size: int, patch_size: int) -> tuple[int, ...]:
    """The scales as a tuple of ints, or an error.

    Raises:
        InputError: the scales do not increase, or do not end at `sample_size / patch_size`.
    """
    if patch_size < 1 or sample_size % patch_size:
        raise InputError(
            f"sample_size {sample_size} cannot be cut into patches of {patch_size}: it must be a multiple."
        )
    scales = tuple(int(side) for side in scales)
    side = sample_size // patch_size
    increasing = all(a < b for a, b in pairwise(scales))
    if not scales or scales[0] < 1 or not increasing or scales[-1] != side:
        raise InputError(
            f"scales {scales} must be positive, increase and end at {side}, the side of the latent in patches "
            f"(sample_size {sample_size} / patch_size {patch_size}); for example {default_scales(side)}."
        )
    return scales


def default_scales(side: int) -> tuple[int, ...]:
    """Powers of two below `side`, then `side`: 16 -> (1, 2, 4, 8, 16), 7 -> (1, 2, 4, 7)."""
    return (*(2**k for k in range((side - 1).bit_length())), side)


def to_map(tokens: Tensor, patch_size: int) -> Tensor:
    """Tokens [B, s^2, P * P * C] of a square map -> [B, C, s P, s P]."""
    side = round(tokens.shape[1] ** 0.5)
    return unpatchify(tokens, (side, side), patch_size)


def per_token(values: Tensor, lengths: Sequence[int]) -> Tensor:
    """One value per scale [B, G, ...] -> one per token [B, T, ...], T = sum of lengths.

    `repeat_interleave` wants the lengths as a tensor on the device: a copy, and a CPU tensor in a compiled graph.
    """
    rest = values.shape[2:]
    parts = zip(values.split(1, dim=1), lengths, strict=True)
    return torch.cat([part.expand(-1, length, *rest) for part, length in parts], dim=1)


def area_resize(maps: Tensor, side: int) -> Tensor:
    """Area down-sampling of [B, C, h, w] to [B, C, side, side]: each value is the mean of the values it covers.

    Where h is no multiple of `side`, windows overlap by whole values (adaptive average pooling).
    """
    return interpolate(maps, size=(side, side), mode="area")


def pyramid(latents: Tensor, scales: Sequence[int], patch_size: int) -> list[Tensor]:
    """The maps of all scales of latents [B, C, H, W], coarse to fine: K tensors [B, C, s_k P, s_k P]."""
    return [area_resize(latents, side * patch_size) for side in scales]


def next_input(maps: Tensor, full_side: int, side: int) -> Tensor:
    """What the transformer reads at scale k + 1: the map of scale k, enlarged to the latent and shrunk again.

    maps [B, C, s_k P, s_k P] -> bicubic to `full_side` = H -> area to `side` = s_{k+1} P. (FlowAR, section 3.2.)
    """
    enlarged = interpolate(maps, size=(full_side, full_side), mode="bicubic", align_corners=False)
    return area_resize(enlarged, side)
