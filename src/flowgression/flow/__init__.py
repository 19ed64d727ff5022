"""Flow matching: paths, solvers, guidance, losses. Torch only; it sees a callable, never a model."""
