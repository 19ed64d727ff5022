"""The theory of almost quadratic attention as tools: the criterion on a model, and exponents that are measured."""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "CriterionReport": "flowgression.theory.criterion",
        "approximate": "flowgression.theory.approximation",
        "measure_complexity": "flowgression.theory.complexity",
        "measure_criterion": "flowgression.theory.criterion",
    },
)
