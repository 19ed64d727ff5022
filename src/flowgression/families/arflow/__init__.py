"""ARFlow: autoregressive flow with hybrid linear attention (arXiv 2501.16085)."""
