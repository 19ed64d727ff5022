"""SiT: the scalable interpolant transformer (arXiv 2401.08740), the baseline of ARFlow."""
