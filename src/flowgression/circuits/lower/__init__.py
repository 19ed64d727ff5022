"""From layers to gates: one model source (blocks.py, scalewise.py), interpreted on integers, on gates, or on types for
counting.
"""
