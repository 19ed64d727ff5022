"""torch.compile and torch.export: what a model's training and sampling become when they are a graph."""
