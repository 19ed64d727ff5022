"""Whole generation loops and pipelines."""

from flowgression._lazy import lazy_names
from flowgression.registry import pipeline_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{name: where.partition(":")[0] for name, where in pipeline_names().items()},
        "ClassConditionalPipeline": "flowgression.sampling.pipeline",
        "SampledImages": "flowgression.sampling.pipeline",
        "SamplingOptions": "flowgression.sampling.options",
        "builtin_models": "flowgression.sampling.folders",
        "load_adapter": "flowgression.sampling.lora",
        "load_pipeline": "flowgression.sampling.loading",
        "make_grid": "flowgression.sampling.images",
        "make_pipeline": "flowgression.sampling.loading",
        "sample_batches": "flowgression.sampling.batches",
        "save_gif": "flowgression.sampling.images",
        "save_npz": "flowgression.sampling.images",
        "save_png": "flowgression.sampling.images",
    },
)
