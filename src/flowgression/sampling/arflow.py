"""Sampling from ARFlow (arXiv 2501.16085, section 3.3): one network call per step on one image per sample.

The context of all earlier denoising steps is in the state that each call hands to the next. It is a local value
here, of constant size (it grows only with context="full", which keeps every earlier image).

Letters: B images, C H W channels and size of a latent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.flow.guidance import Guidance
from flowgression.flow.solvers import Callback, Noise, Velocity
from flowgression.models.arflow.model import ARFlow
from flowgression.sampling.common import SampleOutput, check_inputs, integrate, solver_name


@torch.no_grad()
def sample(
    model: ARFlow,
    z: Tensor,
    class_labels: Tensor,
    *,
    solver: str = "euler",
    num_inference_steps: int = 50,
    times: Sequence[float] | Tensor | None = None,
    guidance_scale: float = 1.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    guided_channels: int | None = None,
    noise: Noise | None = None,
    callback: Callback | None = None,
    **solver_options: Any,
) -> SampleOutput:
    """Images of given classes from given noise.

    Args:
        model: on the device of z, in any floating dtype.
        z: [B,C,H,W] ~ N(0, I), the images at t = 0.
        class_labels: [B] int64 in 0 .. num_classes; the last is the null label (no class).
        solver: "euler" or "heun" (two calls a step; both read the same state, the first advances it), or "sde"
            ("euler_maruyama").
        num_inference_steps: steps of the ODE solvers; for the SDE all network calls, its last step included.
        times: the solver's grid instead of num_inference_steps equal steps.
        guidance_scale: s of v_null + s (v_class - v_null); at 1 only the class half runs. Otherwise one call has
            2B rows of the same images, the class half first; each half reads and advances its own state.
        guidance_interval: times in which guidance applies; outside the class velocity is taken, and both halves
            still advance. guided_channels: guide the first so many channels only (3 in the released code).
        noise: for the SDE, one tensor [B,C,H,W] ~ N(0, I) a step, or a function of the step's index.
        callback: callback(step, t, x) after each step.
        solver_options: of the SDE: diffusion, diffusion_norm, last_step, last_step_size
            (see `flowgression.flow.solvers.euler_maruyama`).

    Returns:
        sample [B,C,H,W] (float32; float64 if z is), the state after the last step (2B rows under guidance), and the
        number of network calls.

    Raises:
        InputError: whatever cannot work, before the first network call.
    """
    guidance = Guidance(guidance_scale, guidance_interval, guided_channels)
    name = solver_name(solver, stateful=True)
    check_inputs(model.config, z, class_labels, guidance)
    return integrate(
        _velocity(model, class_labels, guidance),
        z,
        solver=name,
        num_inference_steps=num_inference_steps,
        times=times,
        noise=noise,
        callback=callback,
        options=solver_options,
    )


def _velocity(model: ARFlow, class_labels: Tensor, guidance: Guidance) -> Velocity:
    config: Any = model.config
    halves = 2 if guidance.enabled else 1
    null = torch.full_like(class_labels, config.num_classes)
    labels = torch.cat([class_labels, null]) if guidance.enabled else class_labels

    def velocity(x: Tensor, t: Tensor, state: Any) -> tuple[Tensor, Any]:
        images = torch.cat([x] * halves)[:, None].to(model.dtype)
        output = model(images, x.new_full((len(images), 1), float(t)), labels, state)
        v = output.velocity[:, 0].to(x.dtype)
        if not guidance.enabled:
            return v, output.state
        v_class, v_null = v.chunk(2)
        return guidance.combine(v_class, v_null) if guidance.active(float(t)) else v_class, output.state

    return velocity
