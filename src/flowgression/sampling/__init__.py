"""Whole generation loops and pipelines."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "ARFlowPipeline": "flowgression.sampling.arflow_pipeline",
        "ClassConditionalPipeline": "flowgression.sampling.pipeline",
        "FlowARPipeline": "flowgression.sampling.flowar_pipeline",
        "SampledImages": "flowgression.sampling.pipeline",
        "SiTPipeline": "flowgression.sampling.sit_pipeline",
        "builtin_models": "flowgression.sampling.folders",
        "load_pipeline": "flowgression.sampling.loading",
        "make_grid": "flowgression.sampling.images",
        "make_pipeline": "flowgression.sampling.loading",
        "sample_batches": "flowgression.sampling.batches",
        "save_gif": "flowgression.sampling.images",
        "save_npz": "flowgression.sampling.images",
        "save_png": "flowgression.sampling.images",
    },
)
