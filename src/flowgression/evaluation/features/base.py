"""What a feature extractor is.

Letters: B images, C H W channels and size, D features, K classes, E spatial features.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from flowgression.errors import InputError


class Features(NamedTuple):
    """features [B,D]; logits [B,K] of a classifier; spatial [B,E], which still know places in the image (for sFID).

    The last two are None where the network has none.
    """

    features: Tensor
    logits: Tensor | None = None
    spatial: Tensor | None = None


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
        network: takes uint8 [B,C,H,W] and returns features [B,D], (features [B,D], logits [B,K]) or (features, logits
            or None, spatial features [B,E]); the contract of torchmetrics' feature modules, with more on top.
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
        features, logits, spatial = (*output, None, None)[:3] if isinstance(output, tuple) else (output, None, None)
        for each in (features, spatial):
            if each is None and each is spatial:
                continue
            if not isinstance(each, Tensor) or each.ndim != 2 or len(each) != len(images):
                found = list(each.shape) if isinstance(each, Tensor) else type(each).__name__
                raise InputError(
                    f"features {self.info.name!r} must give [{len(images)}, D] for these images; got {found}"
                )
            if not torch.isfinite(each).all():
                raise InputError(f"features {self.info.name!r} gave values that are not finite; check its weights")
        return Features(features.cpu(), *(None if each is None else each.cpu() for each in (logits, spatial)))
