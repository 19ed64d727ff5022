"""What the attentions of a FlowAR see while it draws images: all scales, all steps of the solver, both guided halves.

B: images, A: heads, d: width of a head, T: tokens of the scales at hand, lengths: tokens of each scale.
"""

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.probe import Observed, observing
from flowgression.families.flowar.sampling import FlowARSample, noise_shapes, sample
from flowgression.sampling.noise import noise_like


@torch.no_grad()
def observe_sampling(
    model: FlowAR, class_labels: Tensor, noise: Sequence[Tensor], visit: Callable[[Observed], None], **options: Any
) -> FlowARSample:
    """Draw images, with `visit` called at every attention; the transformer reads all coarser scales anew at each scale.

    Args:
        class_labels: [B]. noise: one tensor [B, s_k^2, P P C] a scale.
        visit: what it is given must not be changed, and takes memory as long as it is kept.
        options: of `flowgression.families.flowar.sampling.sample`.
    """
    with observing(model, visit):
        return sample(model, class_labels, noise=noise, use_cache=False, **options)


def compared(
    attention: Any, q: Tensor, k: Tensor, v: Tensor, lengths: Sequence[int]
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    """Per scale what is compared: q [B, A, M, d] of the scale, k and v [B, A, N, d] of all that it sees.

    As they stand in the attention: logits are plain products of q and k, and v is what is averaged.
    """
    q, k = attention.logit_factors(q, k)
    v = attention.values(v)
    start = 0
    for length in lengths:
        stop = start + length
        visible = slice(0 if attention.causal else start, stop)
        yield q[:, :, start:stop], k[:, :, visible], v[:, :, visible]
        start = stop


def starting_points(model: FlowAR, num_images: int, seed: int) -> tuple[Tensor, list[Tensor]]:
    """Labels 0, 1, ... in turn, [B], and the noise of every scale from generators `seed`, `seed + 1`, ..."""
    labels = torch.arange(num_images, device=model.device) % model.config.num_classes
    generators = [torch.Generator().manual_seed(seed + index) for index in range(num_images)]
    shapes = noise_shapes(model, num_images)
    return labels, [noise_like(shape, generators, device=model.device) for shape in shapes]
