"""ARFlow as a pipeline."""

from collections.abc import Sequence
from typing import Any

from torch import Generator, Tensor

from flowgression.models.arflow.model import ARFlow
from flowgression.sampling.arflow import keeps_state, sample
from flowgression.sampling.history import ALL, parse_history
from flowgression.sampling.options import ContextOptions, takes
from flowgression.sampling.pipeline import ClassLabels, SampledImages
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
    options_class = ContextOptions

    @takes(ContextOptions)
    def __call__(
        self,
        class_labels: ClassLabels,
        *,
        generator: Generator | Sequence[Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_trajectory: bool | int = False,
        return_dict: bool = True,
        **settings: Any,
    ) -> SampledImages | tuple[Any, ...]:
        """Generate one image for each class label; see `SiTPipeline` for the arguments.

        Raises:
            InputError: whatever cannot work, before the network is called.
            FloatingPointError: the result is not finite.
        """
        return self._draw(
            self.class_ids(class_labels),
            settings,
            generator=generator,
            latents=latents,
            output_type=output_type,
            return_trajectory=return_trajectory,
            return_dict=return_dict,
        )

    def keeps_state(self, options: ContextOptions | None = None) -> bool:
        """Whether a call of the model reads the steps before it, with sampling options or by default."""
        return keeps_state(self.transformer, ALL if options is None else parse_history(options.history))
