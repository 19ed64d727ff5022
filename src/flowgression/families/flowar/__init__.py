"""FlowAR: next-scale autoregression with a flow-matching head (arXiv 2412.15205)."""
