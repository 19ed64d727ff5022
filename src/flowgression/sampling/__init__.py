"""Whole generation loops and pipelines."""
