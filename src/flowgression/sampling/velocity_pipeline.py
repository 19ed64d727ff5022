"""The call that ARFlowPipeline and SiTPipeline share: noise, solver, guidance, decoding.

Letters: B images, C H W channels and size of a latent, n steps.
"""

from collections.abc import Callable, Mapping, Sequence
from typing import Any, ClassVar

import torch
from torch import Generator, Tensor

from flowgression.errors import InputError
from flowgression.sampling.common import SampleOutput, count_steps, evenly_spaced, solver_name
from flowgression.sampling.noise import image_generators, noise_like
from flowgression.sampling.pipeline import ClassConditionalPipeline, ClassLabels, SampledImages


class VelocityPipeline(ClassConditionalPipeline):
    """A pipeline around a `sample(model, z, class_labels, ...)` function that walks from noise to data."""

    sample_function: ClassVar[Callable[..., SampleOutput]]
    stateful: ClassVar[bool]

    @torch.no_grad()
    def __call__(
        self,
        class_labels: ClassLabels,
        num_inference_steps: int = 50,
        guidance_scale: float = 1.5,
        guidance_interval: tuple[float, float] = (0.0, 1.0),
        guided_channels: int | None = None,
        generator: Generator | Sequence[Generator] | None = None,
        latents: Tensor | None = None,
        solver: str = "euler",
        times: Sequence[float] | Tensor | None = None,
        solver_options: Mapping[str, Any] | None = None,
        output_type: str = "pil",
        return_trajectory: bool | int = False,
        return_dict: bool = True,
    ) -> SampledImages | tuple[Any, ...]:
        """Generate one image for each class label.

        Args:
            class_labels: B class ids or names ("seven"), or a single one; see `pipe.labels`.
            num_inference_steps: n; network calls of "euler" and "sde", half of those of "heun".
            guidance_scale: classifier-free guidance, v_null + s (v_class - v_null); 1 is none and half the work.
            guidance_interval: times (t = 0 noise, t = 1 data) in which guidance applies.
            guided_channels: guide the first so many channels only; None guides all.
            generator: one generator (from which a seed per image is drawn) or a list of B. An image depends on its
                own generator alone: it comes out the same, to rounding, alone and in any batch.
            latents: starting noise [B,C,H,W] instead of that of the generators.
            solver: "euler", "heun", "sde" (Euler-Maruyama), and for SiT "dopri5".
            times: the solver's own grid instead of n equal steps.
            solver_options: further options of the solver, as {"diffusion": "linear"}.
            output_type: "pil", "np", "pt" or "latent"; see `SampledImages`.
            return_trajectory: also return the noisy images x_t along the way, n + 1 entries from the noise to the
                result, decoded like it; a number k >= 2 keeps k of them, evenly spaced. They wait on the CPU. Not for
                "dopri5", which has no steps of its own.
            return_dict: return a `SampledImages` instead of a tuple (images,) or (images, trajectory).

        Raises:
            InputError: whatever cannot work, before the first network call.
            FloatingPointError: the result is not finite.
        """
        self.check_output_type(output_type)
        ids = self.class_ids(class_labels)
        name, options = solver_name(solver, stateful=self.stateful), dict(solver_options or {})
        steps = 0 if name == "dopri5" else count_steps(name, num_inference_steps, times, options)
        kept = self._kept_entries(return_trajectory, steps)
        generators = image_generators(generator, len(ids))
        z = self.starting_noise(generators, latents)
        frames = [z.cpu()] if kept else []
        with self.progress_bar(total=steps) as bar:

            def after_step(step: int, t: float, x: Tensor) -> None:
                bar.update()
                if step + 1 in kept:
                    frames.append(x.cpu())

            output = type(self).sample_function(
                self.transformer,
                z,
                torch.tensor(ids, device=z.device),
                solver=name,
                num_inference_steps=num_inference_steps,
                times=times,
                guidance_scale=guidance_scale,
                guidance_interval=guidance_interval,
                guided_channels=guided_channels,
                noise=(lambda step: noise_like(z.shape, generators, device=z.device))
                if name == "euler_maruyama"
                else None,
                callback=after_step,
                **options,
            )
        images = self.to_output(output.sample, output_type)
        trajectory = [self.to_output(x.to(z.device), output_type) for x in frames] if kept else None
        self.maybe_free_model_hooks()
        if return_dict:
            return SampledImages(images=images, trajectory=trajectory)
        return (images, trajectory) if kept else (images,)

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
            raise InputError("solver 'dopri5' has no steps of its own, hence no trajectory; use 'euler' or 'heun'.")
        if return_trajectory is True:
            return set(range(steps + 1))
        if return_trajectory < 2:
            raise InputError(f"return_trajectory must be True, False or a number >= 2, not {return_trajectory}.")
        return set(evenly_spaced(steps + 1, return_trajectory))
