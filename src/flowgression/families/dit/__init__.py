"""What SiT and ARFlow share: the transformer of DiT, its weights and its pipeline."""
