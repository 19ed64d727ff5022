"""FlowAR as a pipeline.

Letters: B images, C H channels and side of a latent, K scales.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import torch
from torch import Generator, Tensor
from torch.nn.functional import interpolate

from flowgression.errors import InputError
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.sampling import (
    coarse_maps_of,
    coarse_maps_of_edit,
    noise_shapes,
    settle_request,
    walk,
)
from flowgression.families.flowar.scales import to_map
from flowgression.layers.patches import patchify
from flowgression.sampling.between import Label, noise_between
from flowgression.sampling.inputs import NOTHING, Given, Pictures, labels_beside, read_given
from flowgression.sampling.noise import image_generators, noise_like
from flowgression.sampling.options import ScaleOptions, takes
from flowgression.sampling.pipeline import ClassConditionalPipeline, ClassLabels, SampledImages
from flowgression.sampling.request import Sampling
from flowgression.sampling.steps import TENSORS, Interrupted, StepEnd


class FlowARPipeline(ClassConditionalPipeline):
    """Class-conditional images from a FlowAR transformer, drawn scale by scale.

    >>> from flowgression import FlowARPipeline
    >>> pipe = FlowARPipeline.from_pretrained("flowar-mnist")
    >>> images = pipe(class_labels=[3, "seven"], num_inference_steps=8, guidance_scale=2.0).images
    >>> len(images), images[0].size
    (2, (28, 28))
    """

    transformer_class = FlowAR
    options_class = ScaleOptions
    walk_function = staticmethod(walk)

    @torch.no_grad()
    @takes(ScaleOptions)
    def __call__(
        self,
        class_labels: ClassLabels | None = None,
        *,
        generator: Generator | Sequence[Generator] | None = None,
        noise: Sequence[Tensor] | None = None,
        coarse_latents: Tensor | None = None,
        num_coarse_scales: int = 1,
        image: Pictures | None = None,
        strength: float | None = None,
        mask_image: Pictures | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_trajectory: bool | int = False,
        return_dict: bool = True,
        num_images_per_prompt: int = 1,
        callback_on_step_end: Callable[..., Any] | None = None,
        callback_on_step_end_tensor_inputs: Sequence[str] = TENSORS,
        **settings: Any,
    ) -> SampledImages | tuple[Any, ...]:
        """Generate one image for each class label.

        Args:
            class_labels: B class ids or names ("seven"), or a single one; see `pipe.labels`. With an image none
                need be given, of models trained with a null label.
            generator: a list of B, of which an image depends on its own alone: it comes out the same, up to
                floating-point error, alone and in any batch; or one for the batch, which draws as in diffusers.
            noise: noise of every scale instead of that of the generators; see `families.flowar.sampling.sample`.
            coarse_latents: latents [B,C,h,h] (or [1,C,h,h]) whose first `num_coarse_scales` scales are kept, while
                the finer ones are drawn: a variation of them, or their super-resolution.
            image: an image, or B, of which the coarse scales are kept: PIL images, tensors [P,H,W] or [B,P,H,W], arrays
                [H,W,P] or [B,H,W,P], in [0, 1] or uint8.
            strength: in (0, 1], the share of the scales that are drawn, at least the last; 0.6 by default, 1 with a
                mask.
            mask_image: white, or true, where the image is drawn anew; the rest is kept, at every scale.
            latents: noise [B,C,H,H] of the last scale instead of that of the generators, which draw that of the others.
            output_type: "pil", "np", "pt" or "latent"; see `SampledImages`.
            return_trajectory: also return the maps of all scales, coarse to fine, enlarged to the size of the result
                by repeating values and decoded like it. A number k keeps the k finest.
            return_dict: return a `SampledImages` instead of a tuple (images,) or (images, trajectory).
            num_images_per_prompt: images of each label, one after the other.
            callback_on_step_end, callback_on_step_end_tensor_inputs: callback(pipe, step, timestep, {"latents": x})
                after each scale, which may return {"latents": changed}; `pipe._interrupt = True` in it stops there.
            settings: the sampling options below.

        Raises:
            InputError: whatever cannot work, before the network is called.
            FloatingPointError: the result is not finite.
        """
        if return_trajectory is not True and return_trajectory < 0:
            raise InputError(f"return_trajectory must be True, False or a number of scales, not {return_trajectory}.")
        ids = self.repeated(labels_beside(self, class_labels, image), num_images_per_prompt)
        given = read_given(self, image, strength, mask_image, len(ids))
        if coarse_latents is not None and given.edit is not None:
            raise InputError("coarse_latents and image both say what is kept; give one of them.")
        coarse: list[Tensor] = [] if given.edit is None else coarse_maps_of_edit(self.transformer, given.edit)
        if coarse_latents is not None:
            latent = coarse_latents.to(self._execution_device).float()
            maps = coarse_maps_of(self.transformer, latent, num_coarse_scales)
            coarse = [each.expand(len(ids), -1, -1, -1) if len(each) == 1 else each for each in maps]
        return self._draw(
            ids,
            settings,
            generator=generator,
            noise=noise,
            latents=latents,
            coarse=coarse,
            given=given,
            output_type=output_type,
            return_trajectory=return_trajectory,
            return_dict=return_dict,
            step_end=StepEnd(callback_on_step_end, callback_on_step_end_tensor_inputs),
        )

    @torch.no_grad()
    def _draw(
        self,
        ids: Sequence[Label],
        settings: Mapping[str, Any],
        *,
        generator: Generator | Sequence[Generator] | None = None,
        noise: Sequence[Tensor] | None = None,
        latents: Tensor | None = None,
        coarse: Sequence[Tensor] = (),
        given: Given = NOTHING,
        output_type: str = "pil",
        return_trajectory: bool | int = False,
        return_dict: bool = True,
        step_end: StepEnd = StepEnd(),  # noqa: B008 - frozen
    ) -> SampledImages | tuple[Any, ...]:
        """The call for classes that are known by number; coarse: the maps of the first scales, [B,C,h,h] each."""
        self.check_output_type(output_type)
        generators = image_generators(generator, len(ids))
        request = self.request(
            ids, self.sampling_options(settings), method=self.scheduler_solver(generators), edit=given.edit
        )
        drawn = len(self.transformer.scales[: request.options.num_scales]) - len(coarse)
        if latents is not None:
            noise = self._with_latents(noise, latents, generators)
        self.begin(request.options.guidance_scale, drawn)
        with self.progress_bar(total=drawn) as bar:

            def after_scale(scale: int, drawn_map: Tensor) -> None:
                bar.update()
                maps.append(drawn_map)
                step_end(self, scale, (scale + 1) / (len(coarse) + drawn), drawn_map)

            maps = list(coarse)
            request = replace(request, callback=after_scale)
            try:
                sample = walk(self.transformer, request, noise=noise, generators=generators, coarse_maps=coarse).sample
            except Interrupted as stopped:
                sample = stopped.latents
        images = self.to_output(sample, output_type, given.paste)
        trajectory = None
        if return_trajectory:
            kept = maps if return_trajectory is True else maps[-return_trajectory:]
            size = sample.shape[-2:]
            trajectory = [self.to_output(interpolate(each, size=size, mode="nearest"), output_type) for each in kept]
        self.maybe_free_model_hooks()
        if return_dict:
            return SampledImages(images=images, trajectory=trajectory)
        return (images, trajectory) if return_trajectory else (images,)

    def request(self, class_ids: Sequence[Label], options: ScaleOptions, **given: Any) -> Sampling:
        """The settled request for images of these classes; arguments and errors as of `sampling.request.settle`."""
        return settle_request(self.transformer, class_ids, options, guide=self.guide_of(options), **given)

    def draw_between(
        self, labels: Sequence[Label], ends: Sequence[Generator], settings: Mapping[str, Any], **how: Any
    ) -> SampledImages | tuple[Any, ...]:
        """See `ClassConditionalPipeline.interpolate`."""
        shapes = noise_shapes(self.transformer, 2)
        drawn = [noise_like(each, ends, device=self._execution_device) for each in shapes]
        return self._draw(labels, settings, noise=[noise_between(each, len(labels)) for each in drawn], **how)

    def _with_latents(
        self, noise: Sequence[Tensor] | None, latents: Tensor, generators: Sequence[Generator]
    ) -> list[Tensor]:
        """The noise of all scales, that of the last one `latents` [B,C,H,H]. InputError for another shape, or both."""
        config, device = self.transformer.config, self._execution_device
        shape = (len(generators), config.in_channels, config.sample_size, config.sample_size)
        if noise is not None:
            raise InputError("noise is that of all scales, the last one's among them; leave latents out.")
        if tuple(latents.shape) != shape:
            raise InputError(f"latents must have shape {list(shape)} for these labels; got {list(latents.shape)}.")
        drawn = [noise_like(each, generators, device=device) for each in noise_shapes(self.transformer, shape[0])]
        return [*drawn[:-1], patchify(latents.to(device, torch.float32), config.patch_size)]

    def as_map(self, tokens: Tensor) -> Tensor:
        """The tokens [B, s^2, P P C] of one scale, noisy or not, as a map [B, C, s P, s P]."""
        return to_map(tokens, self.transformer.config.patch_size)
