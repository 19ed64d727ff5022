"""Smoothing the seams between patches: two small convolutions over the whole image."""

import torch
from torch import Tensor, nn
from torch.nn.functional import gelu


class Refine(nn.Module):
    """image + conv(GELU(conv([image, x]))), 3 x 3 each; x is what the network was given. Zero at the start.

    Patches are drawn apart from each other, which shows as a mosaic where a network is small or trained for minutes.

    Args:
        channels: C of the images. width: between the two convolutions.
    """

    def __init__(self, channels: int, width: int):
        super().__init__()
        self.inner = nn.Conv2d(2 * channels, width, 3, padding=1)
        self.outer = nn.Conv2d(width, channels, 3, padding=1)

    def initialise(self) -> None:
        """Weights for a start at which the image stays as it is."""
        nn.init.kaiming_uniform_(self.inner.weight, a=5**0.5)
        for parameter in self.outer.parameters():
            nn.init.zeros_(parameter)

    def forward(self, image: Tensor, x: Tensor) -> Tensor:
        """image, x [B, C, H, W] -> [B, C, H, W]."""
        return image + self.outer(gelu(self.inner(torch.cat([image, x], dim=1))))
