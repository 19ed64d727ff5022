"""Images and labels: the built-in digits, folders, Hugging Face data sets, latent caches, same-class batches.

The names below are loaded on first use, so that reading a configuration does not load torch.
"""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "DataConfig": "flowgression.data.config",
        "LabeledImages": "flowgression.data.dataset",
        "MnistSplit": "flowgression.data.mnist",
        "SequenceBatchSampler": "flowgression.data.sampler",
        "load_mnist": "flowgression.data.mnist",
        "make_loader": "flowgression.data.loader",
        "make_sampler": "flowgression.data.loader",
        "open_dataset": "flowgression.data.opening",
    },
)
