"""What a feature extractor is.

Letters: B images, C H W channels and size, D features, K classes.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowgression.errors import InputError


class Features(NamedTuple):
    """features [B, D]; logits [B, K] of a classifier, or None where the network has no classes."""

    features: Tensor
    logits: Tensor | None


@dataclass(frozen=True)
class ExtractorInfo:
    """What a report says about an extractor, and what two sets of features must share to be compared.

    Attributes:
        name: as `--features` spells it.
        fingerprint: the first 16 digits of the SHA-256 of its weights.
        resize: how images come to the size that the network reads.
    """

    name: str
    fingerprint: str
    resize: str


class Extractor:
    """A network with what a report needs to know about it.

    Args:
        network: takes uint8 [B,C,H,W] and returns features [B,D], or (features [B,D], logits [B,K]); the contract of
            torchmetrics' feature modules, with logits on top.
        device: where it computes.
    """

    def __init__(self, network: nn.Module, info: ExtractorInfo, device: torch.device | str = "cpu") -> None:
        self.network = network.to(device).eval()
        self.info = info
        self.device = torch.device(device)

    @torch.inference_mode()
    def __call__(self, images: Tensor) -> Features:
        """Features of images uint8 [B,C,H,W], C = 1 or 3; on the CPU.

        Raises:
            InputError: the network returned something else than features [B,D], or values that are not finite.
        """
        output = self.network(images.to(self.device))
        features, logits = output if isinstance(output, tuple) else (output, None)
        if not isinstance(features, Tensor) or features.ndim != 2 or len(features) != len(images):
            found = list(features.shape) if isinstance(features, Tensor) else type(features).__name__
            raise InputError(f"features {self.info.name!r} must give [{len(images)}, D] for these images; got {found}")
        if not torch.isfinite(features).all():
            raise InputError(f"features {self.info.name!r} gave values that are not finite; check its weights")
        return Features(features.cpu(), None if logits is None else logits.cpu())
