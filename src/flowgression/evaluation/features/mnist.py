"""The extractor `mnist`: a small convolutional classifier of digits, trained by `tools/train_mnist.py`.

Letters: B images, C H W channels and size.
"""

import torch
import torch.nn.functional as F
from torch import Tensor, nn

SIZE = 28  # what the network reads
NUM_FEATURES = 64
RESIZE_RGB = "bicubic with antialiasing to 28 x 28, not rounded; red, green and blue each alone"
RESIZE = "bicubic with antialiasing to 28 x 28, not rounded; colour by ITU-R 601 luma"


class DigitClassifier(nn.Module):
    """uint8 [B,C,H,W] -> (features [B,64], logits [B,10]).

    The features are the penultimate layer before its ReLU: they are nearer to the normal distribution that the
    Frechet distance supposes than rectified ones, half of which are zeros.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = nn.Sequential(
            nn.Conv2d(1, 16, 5, stride=2, padding=2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
            nn.Conv2d(16, 32, 3, padding=1, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(32, 64, 3, padding=1, bias=False), nn.BatchNorm2d(64), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(64 * 9, NUM_FEATURES),
        )  # fmt: skip
        self.head = nn.Sequential(nn.ReLU(), nn.Linear(NUM_FEATURES, 10))

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        return self.read(prepare(images))

    def read(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """float32 [B,1,28,28] in [-1, 1] -> (features, logits)."""
        features = self.trunk(pixels)
        return features, self.head(features)


class ColouredDigits(nn.Module):
    """uint8 [B,3,H,W] -> features [B,192]: those of a digit classifier on red, green and blue alone, side by side.

    `DigitClassifier` reads the luminance, to which many colours are one. A channel may show a dark digit on a bright
    ground or no digit at all, which the classifier never saw: its features tell colours and shapes apart all the same.
    There are no logits: colours name no digit.
    """

    def __init__(self, classifier: DigitClassifier) -> None:
        super().__init__()
        self.classifier = classifier

    def forward(self, images: Tensor) -> Tensor:
        channels = images.expand(-1, 3, -1, -1)
        return self.classifier(channels.flatten(0, 1)[:, None])[0].unflatten(0, channels.shape[:2]).flatten(1)


def prepare(images: Tensor) -> Tensor:
    """uint8 [B,C,H,W] -> float32 [B,1,28,28] in [-1, 1]."""
    pixels = images.float()
    if pixels.shape[1] == 3:
        luma = torch.tensor([0.299, 0.587, 0.114], device=pixels.device)
        pixels = torch.einsum("bchw,c->bhw", pixels, luma)[:, None]
    return resize(pixels).div(127.5).sub(1.0)


def resize(pixels: Tensor, size: int = SIZE) -> Tensor:
    """float [B,C,H,W] -> [B,C,size,size], bicubic with antialiasing."""
    if pixels.shape[-2:] == (size, size):
        return pixels
    return F.interpolate(pixels, size=(size, size), mode="bicubic", antialias=True)
