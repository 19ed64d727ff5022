"""flowgression: autoregressive flow models for image generation.

The names below are loaded on first use, so that `import flowgression` and the command line start at once.
"""

from flowgression._lazy import lazy_names
from flowgression.registry import FAMILIES, pipeline_names
from flowgression.threads import prepare_threads

__version__ = "0.2.0"

prepare_threads()  # before anything loads torch

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        **{family.title: family.model.partition(":")[0] for family in FAMILIES.values()},
        **{name: where.partition(":")[0] for name, where in pipeline_names().items()},
        "InputError": "flowgression.errors",
        "TrainConfig": "flowgression.training.config",
        "evaluate": "flowgression.evaluation.run",
        "flow": "flowgression.flow",
        "load_pipeline": "flowgression.sampling.loading",
        "make_pipeline": "flowgression.sampling.loading",
        "ops": "flowgression.ops",
        "train": "flowgression.training.loop",
    },
)
__all__ = ["__version__", *__all__]
