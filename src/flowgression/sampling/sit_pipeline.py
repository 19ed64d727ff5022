"""SiT as a pipeline."""

from flowgression.models.sit.model import SiT
from flowgression.sampling.sit import sample
from flowgression.sampling.velocity_pipeline import VelocityPipeline


class SiTPipeline(VelocityPipeline):
    """Class-conditional images from a SiT transformer.

    >>> pipe = SiTPipeline.from_pretrained("sit-mnist")
    >>> pipe(class_labels=[3, "seven"], num_inference_steps=50, guidance_scale=1.5).images
    """

    transformer_class = SiT
    sample_function = staticmethod(sample)
    keeps_state = staticmethod(lambda model: False)
