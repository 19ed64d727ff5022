"""Images and labels: the built-in digits, folders, Hugging Face data sets, latent caches, same-class batches.

The names below are loaded on first use, so that reading a configuration does not load torch.
"""

from importlib import import_module
from typing import Any

_LAZY = {
    "DataConfig": "flowgression.data.config",
    "LabeledImages": "flowgression.data.dataset",
    "MnistSplit": "flowgression.data.mnist",
    "SequenceBatchSampler": "flowgression.data.sampler",
    "load_mnist": "flowgression.data.mnist",
    "make_loader": "flowgression.data.loader",
    "make_sampler": "flowgression.data.loader",
    "open_dataset": "flowgression.data.opening",
}
__all__ = list(_LAZY)


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowgression.data' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
