"""Sampling from SiT (arXiv 2401.08740): the same solvers as for ARFlow, on a model without a state.

Letters: B images, C H W channels and size of a latent.
"""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.flow.guidance import Guidance
from flowgression.flow.solvers import Callback, Noise, Velocity
from flowgression.models.sit.model import SiT
from flowgression.sampling.common import SampleOutput, check_inputs, integrate, solver_name


@torch.no_grad()
def sample(
    model: SiT,
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
    """Images of given classes from given noise; arguments, result and errors as in `sampling.arflow.sample`, but:

    Args:
        solver: also "dopri5", which chooses its own steps between the first and the last of `times`, calls no
            callback, and has the options rtol and atol. The options of the SDE include `path` ("linear", "gvp", "vp"
            or a `flow.paths.Path`), the path the model was trained on.
        guidance_interval: outside of it only the class half runs.
    """
    guidance = Guidance(guidance_scale, guidance_interval, guided_channels)
    name = solver_name(solver, stateful=False)
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


def _velocity(model: SiT, class_labels: Tensor, guidance: Guidance) -> Velocity:
    config: Any = model.config
    both = torch.cat([class_labels, torch.full_like(class_labels, config.num_classes)])

    def velocity(x: Tensor, t: Tensor, state: None) -> tuple[Tensor, None]:
        guided = guidance.active(float(t))
        images = torch.cat([x, x]) if guided else x
        labels = both if guided else class_labels
        v = model(images.to(model.dtype), x.new_full((len(images),), float(t)), labels).velocity.to(x.dtype)
        return guidance.combine(*v.chunk(2)) if guided else v, state

    return velocity
