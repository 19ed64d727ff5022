"""HOFAR: FlowAR with a second flow head for the acceleration (arXiv 2503.08032)."""
