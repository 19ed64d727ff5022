"""The theory of almost quadratic attention as tools: the criterion on a model, and exponents that are measured."""

from typing import Any

from flowgression._lazy import lazy_names

MEASURED: dict[str, Any] = {"num_inference_steps": 8, "guidance_scale": 2.0}
"""How images are drawn on which a model is measured, unless its caller says otherwise."""

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CriterionReport": "flowgression.theory.criterion",
        "approximate": "flowgression.theory.approximation",
        "measure_complexity": "flowgression.theory.complexity",
        "measure_criterion": "flowgression.theory.criterion",
    },
)
