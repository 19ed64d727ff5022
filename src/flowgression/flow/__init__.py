"""Flow matching: paths, time grids, solvers, guidance, losses. Torch only; it sees a callable, never a model."""
