"""ARFlow as a pipeline."""

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from flowgression.errors import InputError
from flowgression.families.arflow.examples import Examples, as_latents
from flowgression.families.arflow.model import ARFlow
from flowgression.families.arflow.sampling import keeps_state, read_history, walk
from flowgression.families.dit.pipeline import VelocityPipeline
from flowgression.sampling.between import Label
from flowgression.sampling.inputs import Pictures, labels_beside, read_given
from flowgression.sampling.noise import noise_like
from flowgression.sampling.options import ContextOptions, takes
from flowgression.sampling.pipeline import ClassLabels, SampledImages
from flowgression.sampling.request import Sampling
from flowgression.sampling.steps import TENSORS, StepEnd, with_times


class ARFlowPipeline(VelocityPipeline):
    """Class-conditional images from an ARFlow transformer.

    >>> from flowgression import ARFlowPipeline
    >>> pipe = ARFlowPipeline.from_pretrained("arflow-mnist")
    >>> images = pipe(class_labels=[3, "seven"], num_inference_steps=8, guidance_scale=1.5).images
    >>> len(images), images[0].size
    (2, (28, 28))
    """

    transformer_class = ARFlow
    walk_function = staticmethod(walk)
    options_class = ContextOptions

    @takes(ContextOptions)
    def __call__(
        self,
        class_labels: ClassLabels | None = None,
        *,
        examples: Examples | None = None,
        example_labels: ClassLabels | Sequence[Sequence[int | str]] | None = None,
        num_images: int | None = None,
        image: Pictures | None = None,
        strength: float | None = None,
        mask_image: Pictures | None = None,
        generator: Generator | Sequence[Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_trajectory: bool | int = False,
        return_dict: bool = True,
        num_images_per_prompt: int = 1,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSORS,
        sigmas: Sequence[float] | None = None,
        timesteps: Sequence[float] | None = None,
        **settings: Any,
    ) -> SampledImages | tuple[Any, ...]:
        """Generate one image for each class label, or more images like some examples; see `SiTPipeline` for the rest.

        Args:
            class_labels: B class ids or names ("seven"), or a single one; with examples it may be left out, which is
                the null label of a model trained with one.
            examples: real images, of one class or of one group, that are read before the first step, K for all
                samples or K for each: PIL images, tensors [K,C,H,W] or [B,K,C,H,W], arrays [K,H,W,C] or [B,K,H,W,C],
                in [0, 1] or uint8. The autoencoder of the pipeline, if it has one, encodes them. Their noise is that
                of each image's generator.
            example_labels: what the examples show, K class ids or names for all samples or K for each; without them
                they are of the class that is drawn.
            num_images: how many to draw without labels (as many as generators, latents or sequences of examples; 1).
            image, strength, mask_image: an image to begin with, as in `SiTPipeline`; the steps before the first one are
                read from it.

        Raises:
            InputError: whatever cannot work, before the network is called.
            FloatingPointError: the result is not finite.
        """
        further: dict[str, Any] = {}
        if examples is None:
            if num_images is not None:
                raise InputError("num_images is for examples without labels; give class_labels, one for each image.")
            if example_labels is not None:
                raise InputError("example_labels are of examples, and there are none.")
            ids = self.repeated(labels_beside(self, class_labels, image), num_images_per_prompt)
        else:
            if num_images_per_prompt != 1:
                raise InputError("num_images_per_prompt is for labels; with examples say num_images.")
            shown = self._encoded(examples)
            counts = [num_images, len(shown) if len(shown) > 1 else None, None if latents is None else len(latents)]
            if generator is not None and not isinstance(generator, Generator):
                counts.append(len(generator))
            ids = self._ids_of_examples(class_labels, [count for count in counts if count is not None])
            shape = (len(ids), *shown.shape[1:])
            labels = self._example_ids(example_labels, len(ids), shown.shape[1])

            def read(generators: Sequence[Generator]) -> dict[str, Tensor]:
                labelled = {} if labels is None else {"example_labels": labels}
                return self._noised(shown.expand(shape), generators) | labelled

            further = {"further": read}
        return self._draw(
            ids,
            with_times(settings, sigmas, timesteps),
            step_end=StepEnd(callback_on_step_end, callback_on_step_end_tensor_inputs),
            generator=generator,
            latents=latents,
            output_type=output_type,
            return_trajectory=return_trajectory,
            return_dict=return_dict,
            given=read_given(self, image, strength, mask_image, len(ids)),
            **further,
        )

    def _encoded(self, examples: Examples) -> Tensor:
        """Latents float32 [1,K,C,H,W] or [B,K,C,H,W] on the pipeline's device."""
        channels = self.transformer.config.in_channels
        if self.vae is None and channels not in (1, 3):
            raise InputError(
                f"examples must be encoded to latents of {channels} channels, and this pipeline has no autoencoder; "
                "load one with vae=..."
            )
        return as_latents(examples, self.transformer, self.vae, self._execution_device)

    def _ids_of_examples(self, class_labels: ClassLabels | None, counts: Sequence[int]) -> list[int]:
        """Class ids of samples by example; counts: how many samples there are to be, by all that says so."""
        config = self.transformer.config
        if class_labels is not None:
            ids = self.class_ids(class_labels, null=True)
        else:
            ids = [config.num_classes] * (counts[0] if counts else 1)
        if config.num_classes in ids and config.class_dropout_prob == 0:
            raise InputError(
                "this model was trained without a null label (class_dropout_prob = 0); give class_labels beside "
                "examples."
            )
        if not ids or any(count != len(ids) for count in counts):
            raise InputError(
                f"{len(ids)} images are asked for, but num_images, sequences of examples, latents and generators say "
                f"{list(counts)}; all must agree."
            )
        return ids

    def _example_ids(self, labels: Any, rows: int, count: int) -> Tensor | None:
        """Class ids int64 [rows, count] of K examples for all samples, or of K for each."""
        if labels is None:
            return None
        if isinstance(labels, Tensor | np.ndarray):
            labels = labels.tolist()
        labels = [labels] if isinstance(labels, int | str) else list(labels)
        each = [labels] if not labels or isinstance(labels[0], int | str) else labels
        ids = [self.class_ids(row, null=True) for row in each]
        if any(len(row) != count for row in ids) or len(ids) not in (1, rows):
            raise InputError(
                f"example_labels must be {count} labels, one for each example, or {rows} lists of {count}; got "
                f"{[len(row) for row in ids]}."
            )
        return torch.tensor(ids, device=self._execution_device).expand(rows, count)

    def _noised(self, examples: Tensor, generators: Sequence[Generator]) -> dict[str, Tensor]:
        """What `walk` gets: row i of the noise is drawn from `generators[i]` only."""
        noise = noise_like(examples.shape, generators, device=examples.device)
        return {"examples": examples, "example_noise": noise}

    def request(self, class_ids: Sequence[Label], options: ContextOptions, **given: Any) -> Sampling:
        return super().request(class_ids, options, past=read_history(self.transformer, options), **given)

    def keeps_state(self) -> bool:
        """Whether a call of the model reads the steps before it by default."""
        return keeps_state(self.transformer)
