"""Measuring generated images: features, distances between sets of images, reports."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Comparison": "flowgression.evaluation.comparison",
        "Estimate": "flowgression.evaluation.comparison",
        "Evaluation": "flowgression.evaluation.run",
        "ImageSet": "flowgression.evaluation.images",
        "Statistics": "flowgression.evaluation.statistics",
        "collect": "flowgression.evaluation.statistics",
        "compare": "flowgression.evaluation.comparison",
        "evaluate": "flowgression.evaluation.run",
        "load_extractor": "flowgression.evaluation.features.registry",
        "load_statistics": "flowgression.evaluation.storage",
        "open_image_set": "flowgression.evaluation.images",
        "sample_and_measure": "flowgression.evaluation.model",
        "save_statistics": "flowgression.evaluation.storage",
    },
)
