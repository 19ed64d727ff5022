"""A compiler from FlowAR models to constant-depth threshold circuits (arXiv 2502.16490).

The core needs NumPy alone; evaluation needs the extra `circuits` (Numba, SciPy). Nothing here loads torch except
`frontend.py`, which reads a trained model. `compile.py` is the one-page overview of the whole pipeline.
"""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Circuit": "flowgression.circuits.ir",
        "FlowARSpec": "flowgression.circuits.spec",
        "Precision": "flowgression.circuits.lower.precision",
        "build": "flowgression.circuits.compile",
        "count": "flowgression.circuits.compile",
        "evaluate": "flowgression.circuits.simulate",
        "flowar_program": "flowgression.circuits.programs",
        "layer_program": "flowgression.circuits.programs",
        "load": "flowgression.circuits.ir",
        "outline": "flowgression.circuits.compile",
        "random_spec": "flowgression.circuits.spec",
        "read_flowar": "flowgression.circuits.frontend",
    },
)
