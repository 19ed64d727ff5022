"""Mutations of everything that people hand in, and a verdict on what the commands make of them.

    python -m tests.fuzz --total 10000            counts by kind, and every fault with its number
    python -m tests.fuzz --kind images --only 17  one case again, with what it printed

Case i of a kind is a function of (kind, i) alone.
"""
