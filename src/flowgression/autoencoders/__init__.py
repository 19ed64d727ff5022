"""Autoencoders between pixels and latents behind one interface: pixels as they are, or any diffusers AutoencoderKL."""
