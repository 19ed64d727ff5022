"""A compiler from FlowAR models to constant-depth threshold circuits (arXiv 2502.16490).

The core needs NumPy alone; evaluation needs the extra `circuits` (Numba, SciPy). Nothing here loads torch except
`frontend.py`, which reads a trained model. `compile.py` is the one-page overview of the whole pipeline.
"""
