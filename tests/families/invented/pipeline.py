"""Drift as a pipeline: that of models which predict a velocity, with the sampler of SiT."""

from flowgression.families.dit.pipeline import VelocityPipeline
from flowgression.families.sit.sampling import walk
from tests.families.invented.model import Drift


class DriftPipeline(VelocityPipeline):
    """Class-conditional images from a Drift."""

    transformer_class = Drift
    walk_function = staticmethod(walk)
