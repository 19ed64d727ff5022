"""nn.Modules without a task: embeddings, patches, norms, attention, blocks."""
