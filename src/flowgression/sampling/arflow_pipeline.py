"""ARFlow as a pipeline."""

from flowgression.models.arflow.model import ARFlow
from flowgression.sampling.arflow import keeps_state, sample
from flowgression.sampling.velocity_pipeline import VelocityPipeline


class ARFlowPipeline(VelocityPipeline):
    """Class-conditional images from an ARFlow transformer.

    >>> from flowgression import ARFlowPipeline
    >>> pipe = ARFlowPipeline.from_pretrained("arflow-mnist")
    >>> images = pipe(class_labels=[3, "seven"], num_inference_steps=8, guidance_scale=1.5).images
    >>> len(images), images[0].size
    (2, (28, 28))
    """

    transformer_class = ARFlow
    sample_function = staticmethod(sample)
    keeps_state = staticmethod(keeps_state)
