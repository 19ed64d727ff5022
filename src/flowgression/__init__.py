"""flowgression: autoregressive flow models for image generation.

The names below are loaded on first use, so that `import flowgression` and the command line start at once.
"""

from importlib import import_module
from typing import Any

__version__ = "0.1.0"

_LAZY = {
    "ARFlow": "flowgression.models.arflow.model",
    "SiT": "flowgression.models.sit.model",
    "FlowAR": "flowgression.models.flowar.model",
    "ARFlowPipeline": "flowgression.sampling.arflow_pipeline",
    "SiTPipeline": "flowgression.sampling.sit_pipeline",
    "FlowARPipeline": "flowgression.sampling.flowar_pipeline",
    "load_pipeline": "flowgression.sampling.loading",
}
__all__ = ["__version__", *_LAZY]


def __getattr__(name: str) -> Any:
    if name not in _LAZY:
        raise AttributeError(f"module 'flowgression' has no attribute {name!r}")
    return getattr(import_module(_LAZY[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
