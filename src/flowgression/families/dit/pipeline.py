"""The call that ARFlowPipeline and SiTPipeline share: noise, solver, guidance, decoding.

Letters: B images, C H W channels and size of a latent, n steps.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from flowgression.errors import InputError
from flowgression.sampling.between import Label, noise_between
from flowgression.sampling.common import SampleOutput, evenly_spaced
from flowgression.sampling.inputs import NOTHING, Given, Pictures, labels_beside, read_given
from flowgression.sampling.noise import image_generators, noise_like
from flowgression.sampling.options import VelocityOptions, takes
from flowgression.sampling.pipeline import ClassConditionalPipeline, ClassLabels, SampledImages
from flowgression.sampling.request import Sampling, settle
from flowgression.sampling.steps import TENSORS, Interrupted, StepEnd, with_times


class VelocityPipeline(ClassConditionalPipeline):
    """A pipeline around a function that walks from noise to data.

    Attributes:
        walk_function: the function, (model, z, request, ...) -> `SampleOutput`.
    """

    options_class = VelocityOptions
    walk_function: ClassVar[Callable[..., SampleOutput]]

    @takes(VelocityOptions)
    def __call__(
        self,
        class_labels: ClassLabels | None = None,
        *,
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
        """Generate one image for each class label.

        Args:
            class_labels: B class ids or names ("seven"), or a single one; see `pipe.labels`. With an image none
                need be given, of models trained with a null label.
            image: an image to begin with, or B: PIL images, tensors [P,H,W] or [B,P,H,W], arrays [H,W,P] or [B,H,W,P],
                in [0, 1] or uint8.
            strength: in (0, 1], how much of the way from noise is walked: little keeps much of the image. 0.6 by
                default, 1 with a mask.
            mask_image: white, or true, where the image is drawn anew; the rest is kept.
            generator: a list of B, of which an image depends on its own alone: it comes out the same, up to
                floating-point error, alone and in any batch; or one for the batch, which draws as in diffusers.
            latents: starting noise [B,C,H,W] instead of that of the generators.
            output_type: "pil", "np", "pt" or "latent"; see `SampledImages`.
            return_trajectory: also return the noisy images x_t along the way, n + 1 entries from the noise to the
                result, decoded like it; a number k >= 2 keeps k of them, evenly spaced. They wait on the CPU. Not for
                adaptive solvers, which have no steps of their own.
            return_dict: return a `SampledImages` instead of a tuple (images,) or (images, trajectory).
            num_images_per_prompt: images of each label, one after the other.
            callback_on_step_end, callback_on_step_end_tensor_inputs: callback(pipe, step, timestep, {"latents": x})
                after each step, which may return {"latents": changed}; `pipe._interrupt = True` in it stops there.
            sigmas, timesteps: noise levels of the steps, from 1, or 1000, downwards, instead of `times`.
            settings: the sampling options below.

        Raises:
            InputError: whatever cannot work, before the network is called.
            FloatingPointError: the result is not finite.
        """
        ids = self.repeated(labels_beside(self, class_labels, image), num_images_per_prompt)
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
        )

    def request(self, class_ids: Sequence[Label], options: Any, **given: Any) -> Sampling:
        """The settled request for images of these classes; arguments and errors as of `sampling.request.settle`."""
        return settle(self.transformer, class_ids, options, guide=self.guide_of(options), **given)

    def keeps_state(self) -> bool:
        """Whether a call of the model reads the steps before it by default."""
        return False

    @torch.no_grad()
    def _draw(
        self,
        ids: Sequence[Label],
        settings: Mapping[str, Any],
        *,
        generator: Generator | Sequence[Generator] | None,
        latents: Tensor | None,
        output_type: str,
        return_trajectory: bool | int,
        return_dict: bool,
        step_end: StepEnd,
        given: Given = NOTHING,
        further: Callable[[Sequence[Generator]], Mapping[str, Any]] = lambda generators: {},
    ) -> SampledImages | tuple[Any, ...]:
        """The call for classes that are known by number; further: what else `walk_function` gets, drawn after z."""
        self.check_output_type(output_type)
        generators = image_generators(generator, len(ids))
        options, method = self.sampling_options(settings), self.scheduler_solver(generators)
        given.check_scheduler(self.scheduler)
        request = self.request(ids, options, method=method, edit=given.edit)
        steps = request.num_steps
        kept = self._kept_entries(return_trajectory, steps)
        self.begin(request.options.guidance_scale, steps)
        z = self.starting_noise(generators, latents)
        more = further(generators)
        frames = [(z if given.edit is None else given.edit.start(z)).cpu()] if kept else []
        with self.progress_bar(total=steps) as bar:

            def after_step(step: int, t: float, x: Tensor) -> None:
                bar.update()
                step_end(self, step, t, x)
                if step + 1 in kept:
                    frames.append(x.cpu())

            drawn = request.solver.needs_noise
            noise = (lambda step: noise_like(z.shape, generators, device=z.device)) if drawn else None
            request = replace(request, noise=noise, callback=after_step)
            try:
                sample = type(self).walk_function(self.transformer, z, request, **more).sample
            except Interrupted as stopped:
                sample = stopped.latents
        images = self.to_output(sample, output_type, given.paste)
        trajectory = [self.to_output(x.to(z.device), output_type) for x in frames] if kept else None
        self.maybe_free_model_hooks()
        if return_dict:
            return SampledImages(images=images, trajectory=trajectory)
        return (images, trajectory) if kept else (images,)

    def draw_between(
        self, labels: Sequence[Label], ends: Sequence[Generator], settings: Mapping[str, Any], **how: Any
    ) -> SampledImages | tuple[Any, ...]:
        """See `ClassConditionalPipeline.interpolate`."""
        latents = noise_between(self.starting_noise(ends, None), len(labels))
        nothing: dict[str, Any] = {"generator": None, "return_trajectory": False, "step_end": StepEnd()}
        return self._draw(labels, settings, latents=latents, **nothing, **how)

    def starting_noise(self, generators: Sequence[Generator], latents: Tensor | None) -> Tensor:
        """Noise [B,C,H,W] float32 on the pipeline's device: `latents`, or drawn from one generator per image.

        Raises:
            InputError: `latents` of another shape.
        """
        config = self.transformer.config
        side = config.sample_size
        height, width = (side, side) if isinstance(side, int) else side
        shape = (len(generators), config.in_channels, height, width)
        if latents is None:
            return noise_like(shape, generators, device=self._execution_device)
        if tuple(latents.shape) != shape:
            raise InputError(f"latents must have shape {list(shape)} for these labels; got {list(latents.shape)}.")
        return latents.to(device=self._execution_device, dtype=torch.float32)

    @staticmethod
    def _kept_entries(return_trajectory: bool | int, steps: int) -> set[int]:
        """Which of the states 0 (the noise) to `steps` (the result) the trajectory keeps."""
        if return_trajectory is False:
            return set()
        if steps == 0:
            raise InputError("an adaptive solver has no steps of its own, hence no trajectory; use 'euler' or 'heun'.")
        if return_trajectory is True:
            return set(range(steps + 1))
        if return_trajectory < 2:
            raise InputError(f"return_trajectory must be True, False or a number >= 2, not {return_trajectory}.")
        return set(evenly_spaced(steps + 1, return_trajectory))
