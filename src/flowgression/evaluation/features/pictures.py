"""The extractor `pictures-1`: a small network for colour pictures, trained by `tools/picture_features.py`.

It was trained to tell what a picture shows and what was done to it (blurred, noised, cut into tiles, ...), so that its
features see both. The number in the name is the version of the weights: features of two versions do not compare.

Letters: B images, C H W channels and size.
"""

import torch
from torch import Tensor, nn

from flowgression.evaluation.features.mnist import resize

SIZE = 64  # what the network reads
NUM_FEATURES = 96
WIDTHS = (16, 32, 64, 128)  # at 32 x 32, 16 x 16, 8 x 8 and 4 x 4 places
RESIZE = "bicubic with antialiasing to 64 x 64, not rounded; grey repeated to RGB"


class PictureNetwork(nn.Module):
    """uint8 [B,C,H,W] -> features [B,96].

    They are linear in the means over all places of all four stages and, of the first two, the deviations: textures and
    seams of generated pictures show early, objects late.
    """

    def __init__(self) -> None:
        super().__init__()
        one, two, three, _ = WIDTHS
        inputs = (3, one, two, three)
        kernels = (5, 3, 3, 3)
        self.stages = nn.ModuleList(map(_stage, inputs, WIDTHS, kernels))
        self.features = nn.Linear(sum(WIDTHS) + one + two, NUM_FEATURES)

    def forward(self, images: Tensor) -> Tensor:
        return self.read(prepare(images))

    def maps(self, pixels: Tensor) -> list[Tensor]:
        """float32 [B,3,H,W] in [-1, 1] -> what the four stages see, at 1/2, 1/4, 1/8 and 1/16 of the side."""
        found = []
        for stage in self.stages:
            pixels = stage(pixels)
            found.append(pixels)
        return found

    def read(self, pixels: Tensor) -> Tensor:
        """float32 [B,3,64,64] in [-1, 1] -> features."""
        means, deviations = [], []
        for index, x in enumerate(self.maps(pixels)):
            means.append(x.mean(dim=(2, 3)))
            if index < 2:
                deviations.append((x.var(dim=(2, 3), correction=0) + 1e-4).sqrt())
        return self.features(torch.cat([*means, *deviations], dim=1))


def prepare(images: Tensor) -> Tensor:
    """uint8 [B,C,H,W] -> float32 [B,3,64,64] in [-1, 1]."""
    return resize(images.float(), SIZE).expand(-1, 3, -1, -1).div(127.5).sub(1.0)


def _stage(inputs: int, outputs: int, kernel: int) -> nn.Module:
    convolution = nn.Conv2d(inputs, outputs, kernel, stride=2, padding=kernel // 2, bias=False)
    return nn.Sequential(convolution, nn.BatchNorm2d(outputs), nn.ReLU())
