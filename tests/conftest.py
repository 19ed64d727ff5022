"""Fixtures for all rooms."""

from tests.launching import launch

__all__ = ["launch"]
