"""Latents of a data set, encoded once: few large safetensors files and an index that says what they are."""
