"""ARFlow as a pipeline."""

from flowgression.models.arflow.model import ARFlow
from flowgression.sampling.arflow import keeps_state, sample
from flowgression.sampling.velocity_pipeline import VelocityPipeline


class ARFlowPipeline(VelocityPipeline):
    """Class-conditional images from an ARFlow transformer.

    >>> pipe = ARFlowPipeline.from_pretrained("arflow-mnist")
    >>> pipe(class_labels=[3, "seven"], num_inference_steps=50, guidance_scale=1.5).images
    """

    transformer_class = ARFlow
    sample_function = staticmethod(sample)
    keeps_state = staticmethod(keeps_state)
