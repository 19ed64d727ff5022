"""Tiny models and pipelines of some families."""

from tests.families.tiny import family, make_model, make_pipeline

__all__ = ["family", "make_model", "make_pipeline"]
