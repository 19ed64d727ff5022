"""The extractor `inception`: the Inception network of FID, from the package torch-fidelity.

The weights were ported from TensorFlow once; torch-fidelity and pytorch-fid distribute the same file, whose name
carries the beginning of its SHA-256. They are not part of this package and nothing is downloaded here.
"""

import hashlib
from pathlib import Path

import torch
from torch import Tensor, nn

from flowgression.errors import InputError

CHECKSUM = "6726825d"
FILE_NAMES = (f"weights-inception-2015-12-05-{CHECKSUM}.pth", f"pt_inception-2015-12-05-{CHECKSUM}.pth")
RESIZE = "bilinear without antialiasing to 299 x 299 as in TensorFlow 1, grey repeated to RGB"


SPATIAL_CHANNELS = 7


class FidInception(nn.Module):
    """uint8 [B,C,H,W] -> (features [B,2048], logits [B,1008], spatial features [B,2023]).

    The spatial features are those of sFID in the evaluator of guided-diffusion (arXiv 2105.05233, after 2103.03841):
    the first 7 channels of `mixed_6/conv`, 17 x 17 places, in the order place, channel. That tensor of the original
    graph is what the port calls Mixed_6d.branch1x1, after its ReLU.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        maps: list[Tensor] = []
        layer = self.network.get_submodule("Mixed_6d.branch1x1")
        hook = layer.register_forward_hook(lambda module, inputs, output: maps.append(output))
        try:
            features, logits = self.network(images.expand(-1, 3, -1, -1).contiguous())
        finally:
            hook.remove()
        spatial = maps[0][:, :SPATIAL_CHANNELS].permute(0, 2, 3, 1).flatten(1)
        return features, logits, spatial


def load_inception(weights: str | Path | None = None) -> nn.Module:
    """The network with weights from a file, or from where torch-fidelity or pytorch-fid keep theirs.

    Raises:
        InputError: torch-fidelity or the weights are missing (with the steps to get them), or another file.
    """
    path = find_weights(weights)
    try:
        from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3
    except ImportError as error:
        raise InputError(
            f"--features inception needs the package torch-fidelity ({error}): first the torchvision that fits "
            "your torch (another one would replace it), then pip install torch-fidelity"
        ) from error
    network = FeatureExtractorInceptionV3(
        "inception-v3-compat", ["2048", "logits_unbiased"], feature_extractor_weights_path=str(path)
    )
    return FidInception(network)


def find_weights(weights: str | Path | None = None) -> Path:
    """The file of the weights, its checksum tested.

    Raises:
        InputError: there is none, or it is another file.
    """
    cache = Path(torch.hub.get_dir()) / "checkpoints"
    candidates = [Path(weights)] if weights else [cache / name for name in FILE_NAMES]
    path = next((candidate for candidate in candidates if candidate.is_file()), None)
    if path is None:
        raise InputError(
            f"no weights of the Inception network at {' or '.join(map(str, candidates))}. Download "
            f"{FILE_NAMES[1]} from the release fid_weights of github.com/mseitzer/pytorch-fid (or {FILE_NAMES[0]} from "
            "release v0.2.0 of github.com/toshas/torch-fidelity) and put it there, or name it by --features-weights"
        )
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if not found.startswith(CHECKSUM):
        raise InputError(
            f"{path} has the SHA-256 {found[:8]}..., not {CHECKSUM}...: the download is broken or another file; "
            "fetch it again"
        )
    return path
