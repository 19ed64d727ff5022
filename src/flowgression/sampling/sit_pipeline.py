"""SiT as a pipeline."""

from flowgression.models.sit.model import SiT
from flowgression.sampling.sit import sample
from flowgression.sampling.velocity_pipeline import VelocityPipeline


class SiTPipeline(VelocityPipeline):
    """Class-conditional images from a SiT transformer.

    >>> from flowgression import SiTPipeline
    >>> pipe = SiTPipeline.from_pretrained("sit-mnist")
    >>> images = pipe(class_labels=[3, "seven"], num_inference_steps=8, guidance_scale=1.5).images
    >>> len(images), images[0].size
    (2, (28, 28))
    """

    transformer_class = SiT
    sample_function = staticmethod(sample)
