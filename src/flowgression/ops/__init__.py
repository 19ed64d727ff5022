"""Pure tensor functions without parameters; torch only."""
