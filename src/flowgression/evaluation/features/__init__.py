"""Networks that turn images into features; `registry.load_extractor` picks one by name."""
