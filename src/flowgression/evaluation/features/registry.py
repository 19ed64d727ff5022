"""Feature extractors by name: mnist, mnist-rgb, pictures-1, inception, or package.module:attribute.

The last runs code of its writer, so it is taken from whoever calls or types it and never from a file (`names.py`).
"""

import hashlib
import importlib
import sys
from importlib import resources
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import nn

from flowgression.errors import InputError, did_you_mean
from flowgression.evaluation.features.base import Extractor, ExtractorInfo
from flowgression.evaluation.features.names import NAMES, PICTURE_FEATURES

BUILTIN = Path(str(resources.files("flowgression"))) / "builtin"
MNIST_WEIGHTS = BUILTIN / "mnist-classifier" / "model.safetensors"
PICTURE_WEIGHTS = BUILTIN / "picture-features" / "model.safetensors"


def load_extractor(name: str, weights: str | Path | None = None, device: torch.device | str = "cpu") -> Extractor:
    """The extractor called `name`.

    Args:
        name: "mnist" (a classifier of digits, built in), "mnist-rgb" (the same on each channel, which sees colours),
            "pictures-1" (a small network for colour pictures, built in),
            "inception" (the Inception network of FID; needs the
            package torch-fidelity and its weights), or "package.module:attribute" for a torch module, or a function
            without arguments that makes one. It takes uint8 [B,C,H,W] and returns features [B,D], or
            (features, logits [B,K] or None, perhaps spatial features [B,E] for sFID).
        weights: file with the weights, for those with a name of one word.

    Raises:
        InputError: an unknown name, weights that are missing or damaged, or an attribute that is no torch module.
    """
    if name in ("mnist", "mnist-rgb"):
        network, resize = _mnist(Path(weights) if weights else MNIST_WEIGHTS, rgb=name == "mnist-rgb")
    elif name == PICTURE_FEATURES:
        network, resize = _pictures(Path(weights) if weights else PICTURE_WEIGHTS)
    elif name == "inception":
        from flowgression.evaluation.features.inception import RESIZE, load_inception

        network, resize = load_inception(weights), RESIZE
    elif ":" in name:
        if weights is not None:
            raise InputError(f"features {name!r} bring their own weights; leave --features-weights out")
        network, resize = _imported(name), "by the module itself"
    else:
        raise InputError(f"unknown features {name!r}: {did_you_mean(name, NAMES)} Others: package.module:attribute")
    return Extractor(network, ExtractorInfo(name, fingerprint(network), resize), device)


def fingerprint(network: nn.Module) -> str:
    """The first 16 digits of the SHA-256 over the names and values of all weights."""
    digest = hashlib.sha256()
    for name, value in sorted(network.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().view(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:16]


def _mnist(path: Path, rgb: bool) -> tuple[nn.Module, str]:
    from flowgression.evaluation.features.mnist import RESIZE, RESIZE_RGB, ColouredDigits, DigitClassifier

    network = DigitClassifier()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(
            f"{path} holds no weights of the digit classifier ({error}); see docs/evaluation.md"
        ) from error
    return (ColouredDigits(network), RESIZE_RGB) if rgb else (network, RESIZE)


def _pictures(path: Path) -> tuple[nn.Module, str]:
    from flowgression.evaluation.features.pictures import RESIZE, PictureNetwork

    network = PictureNetwork()
    try:
        network.load_state_dict(load_file(path))
    except (OSError, SafetensorError, RuntimeError) as error:
        raise InputError(f"{path} holds no weights of {PICTURE_FEATURES} ({error}); see docs/evaluation.md") from error
    return network, RESIZE


def _imported(name: str) -> nn.Module:
    module_name, _, attribute = name.partition(":")
    if "" not in sys.path:
        sys.path.insert(0, "")  # modules in the folder where the command is typed
    try:
        module = importlib.import_module(module_name)
    except ImportError as error:
        raise InputError(f"features {name!r}: cannot import {module_name!r} ({error})") from error
    if not hasattr(module, attribute):
        raise InputError(
            f"features {name!r}: {module_name} has no {attribute!r}: {did_you_mean(attribute, vars(module))}"
        )
    found: Any = getattr(module, attribute)
    network = found() if callable(found) and not isinstance(found, nn.Module) else found
    if not isinstance(network, nn.Module):
        raise InputError(f"features {name!r} is a {type(network).__name__}; expected a torch module or what makes one")
    return network
