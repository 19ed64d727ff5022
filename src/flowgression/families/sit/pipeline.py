"""SiT as a pipeline."""

from flowgression.families.dit.pipeline import VelocityPipeline
from flowgression.families.sit.model import SiT
from flowgression.families.sit.sampling import walk


class SiTPipeline(VelocityPipeline):
    """Class-conditional images from a SiT transformer.

    >>> from flowgression import SiTPipeline
    >>> pipe = SiTPipeline.from_pretrained("sit-mnist")
    >>> images = pipe(class_labels=[3, "seven"], num_inference_steps=8, guidance_scale=1.5).images
    >>> len(images), images[0].size
    (2, (28, 28))
    """

    transformer_class = SiT
    walk_function = staticmethod(walk)
