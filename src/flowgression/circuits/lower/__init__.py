"""From layers to gates: one model source (layers.py, flowar.py), interpreted on integers, on gates, or on types for
counting.
"""
