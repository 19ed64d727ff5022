"""Training: configuration, loop, optimiser, EMA, checkpoints."""
