"""A compiler from the models of this package to constant-depth threshold circuits (arXiv 2502.16490).

The core needs NumPy alone; evaluation needs the extra `circuits` (Numba, SciPy). Nothing here loads torch except
`frontend.py`, which reads a trained model. `compile.py` is the one-page overview of the whole pipeline.
"""

from flowgression._lazy import lazy_names

__getattr__, __dir__, __all__ = lazy_names(
    __name__,
    {
        "Circuit": "flowgression.circuits.ir",
        "DiTSpec": "flowgression.circuits.dit_spec",
        "FlowARSpec": "flowgression.circuits.flowar_spec",
        "Precision": "flowgression.circuits.lower.precision",
        "build": "flowgression.circuits.compile",
        "count": "flowgression.circuits.compile",
        "dit_program": "flowgression.circuits.programs",
        "evaluate": "flowgression.circuits.simulate",
        "flowar_program": "flowgression.circuits.programs",
        "layer_program": "flowgression.circuits.programs",
        "load": "flowgression.circuits.ir",
        "measured_precision": "flowgression.circuits.calibrate",
        "outline": "flowgression.circuits.compile",
        "random_dit": "flowgression.circuits.dit_spec",
        "random_spec": "flowgression.circuits.flowar_spec",
        "read_dit": "flowgression.circuits.frontend",
        "read_flowar": "flowgression.circuits.frontend",
    },
)
