"""From layers to gates: one model source (layers.py, scalewise.py), interpreted on integers, on gates, or on types for
counting.
"""
