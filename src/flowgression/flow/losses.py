"""The flow-matching loss (arXiv 2210.02747): mean squared error between velocities."""

import torch
from torch import Tensor

from flowgression.errors import InputError


def flow_matching_loss(
    velocity: Tensor, target: Tensor, *, weight: Tensor | None = None, per_image: bool = False, image_dims: int = 3
) -> Tensor:
    """Mean of (velocity - target)^2, computed in float32 (float64 for float64 input) whatever autocast does.

    velocity, target: [..., C, H, W], floating, equal shapes.
    weight: by which the error of each image is multiplied, [...]; None: 1.
    per_image: False gives one number; True one per image, of shape [...].
    image_dims: trailing dimensions that belong to one image: 3 for [C, H, W], 2 for token maps [N, C].
    Raises InputError if the shapes differ (nothing is broadcast) or have fewer dimensions than image_dims.
    """
    if velocity.shape != target.shape:
        raise InputError(f"velocity and target differ in shape: {list(velocity.shape)} and {list(target.shape)}.")
    if velocity.ndim < image_dims:
        raise InputError(f"An image has {image_dims} dimensions, but velocity has shape {list(velocity.shape)}.")
    wide = torch.float64 if velocity.dtype == torch.float64 else torch.float32
    error = (velocity.to(wide) - target.to(wide)).square()
    if weight is None:
        return error.flatten(-image_dims).mean(-1) if per_image else error.mean()
    weighted = error.flatten(-image_dims).mean(-1) * weight
    return weighted if per_image else weighted.mean()
