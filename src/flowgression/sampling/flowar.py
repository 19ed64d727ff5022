"""Sampling from FlowAR (arXiv 2412.15205, section 3.4): scale by scale, each drawn by the flow head.

At every scale the transformer runs once, on the map of the scale before and the key-value cache, whatever the number
of flow steps; then the flow head is integrated from t = 1 (noise) to t = 0 (data).

B: images, C: channels, P: patch size, K: scales with sides s_k in tokens. A map of scale k is [B, C, s_k P, s_k P].
"""

from collections.abc import Callable, Sequence
from typing import NamedTuple

import torch
from torch import Generator, Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.guidance import Guidance
from flowgression.flow.solvers import Velocity, euler, heun
from flowgression.models.flowar.model import FlowAR, FlowARCache
from flowgression.models.flowar.scales import pyramid, to_map
from flowgression.sampling.common import check_inputs
from flowgression.sampling.flowar_schedules import annealed_steps, guidance_ramp, scale_times
from flowgression.sampling.noise import image_generators, noise_like

SOLVERS = {"euler": euler, "heun": heun}
ScaleCallback = Callable[[int, Tensor], None]
"""callback(k, map) after each drawn scale, k from 0."""


class FlowARSample(NamedTuple):
    """What `sample` returns, float32.

    sample: the last map drawn, [B, C, s P, s P]; the latent itself unless sampling stopped early.
    maps: the maps of all scales so far, coarse to fine, given ones included.
    num_calls: calls of the flow head; the transformer ran once per scale.
    """

    sample: Tensor
    maps: list[Tensor]
    num_calls: int


@torch.no_grad()
def sample(
    model: FlowAR,
    class_labels: Tensor,
    *,
    num_inference_steps: int = 25,
    guidance_scale: float = 1.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    noise: Sequence[Tensor] | None = None,
    generator: Generator | Sequence[Generator] | None = None,
    solver: str = "euler",
    time_grid: str = "uniform",
    times: Sequence[float] | Tensor | None = None,
    steps_last_scale: int | None = None,
    coarse_maps: Sequence[Tensor] = (),
    num_scales: int | None = None,
    cache: FlowARCache | None = None,
    use_cache: bool = True,
    callback: ScaleCallback | None = None,
) -> FlowARSample:
    """Latents of given classes.

    Args:
        model: in any floating dtype; the flow is integrated in float64 (float32 where the device has no float64).
        class_labels: [B] int64 in 0 .. num_classes, on the model's device; the last is the null label (no class).
        num_inference_steps: n steps of the solver per scale.
        guidance_scale: s at the last scale; at scale k it is 1 + (s - 1)(k - 1) / (K - 1). At 1 only the class half
            runs.
        guidance_interval: times in which guidance applies (t = 1 is noise); outside of it only the class half of the
            flow head runs. The released samplers use (0, 0.9) and (0, 0.7).
        noise: one tensor [B, s_k^2, P P C] ~ N(0, I) per scale; None: drawn from `generator`.
        generator: one generator, or one per image, so that an image does not depend on its batch.
        solver: "euler" or "heun" (two calls a step).
        time_grid: "uniform", or "released" with all its quirks; see `scale_times`.
        times: a falling grid from 1 to 0 instead, the same at every scale.
        steps_last_scale: steps at the last scale; they change linearly over the scales from num_inference_steps
            (step annealing, arXiv 2505.20297). None: the same at every scale.
        coarse_maps: the maps of the first scales, which are then taken as given; see `coarse_maps_of`.
        num_scales: stop after so many scales. None: all.
        cache: an empty cache for B images (2B with guidance) whose memory is used; None makes one.
        use_cache: False computes all coarser scales again at every scale instead.
        callback: callback(k, map) after each drawn scale.

    Raises:
        InputError: whatever cannot work, before the first network call.
    """
    last = _checked_num_scales(model, num_scales, coarse_maps, class_labels)
    guidance = Guidance(guidance_scale, guidance_interval)
    noise = _checked_noise(model, noise, generator, class_labels, last)
    check_inputs(model.config, to_map(noise[0], model.config.patch_size), class_labels, guidance)
    if solver not in SOLVERS:
        raise InputError(f"unknown solver {solver!r} for FlowAR. {did_you_mean(solver, SOLVERS)}")
    steps = annealed_steps(num_inference_steps, steps_last_scale, len(model.scales))
    grids = [scale_times(n, time_grid, times) for n in steps]
    ramp = guidance_ramp(guidance_scale, len(model.scales))

    labels = class_labels
    if guidance.enabled:
        labels = torch.cat([class_labels, torch.full_like(class_labels, model.config.num_classes)])
    if use_cache and cache is None:
        cache = model.new_cache(len(labels), num_scales=last)
    maps: list[Tensor] = []
    num_calls = 0
    for k in range(last):
        previous = [torch.cat([each] * (len(labels) // len(each))) for each in (maps[-1:] if use_cache else maps)]
        if cache is not None and use_cache:
            semantics, cache = model.next_semantics(previous[0] if previous else None, labels, cache)
        elif k >= len(coarse_maps):
            semantics = model.semantics(previous, labels)[-1]
        if k < len(coarse_maps):
            maps.append(coarse_maps[k].float())
            continue
        velocity = _velocity(model, semantics, Guidance(ramp[k], guidance_interval))
        wide = torch.float32 if noise[k].device.type == "mps" else torch.float64
        drawn = SOLVERS[solver](velocity, noise[k].to(wide), grids[k])
        num_calls += drawn.num_calls
        maps.append(to_map(drawn.sample.float(), model.config.patch_size))
        if callback is not None:
            callback(k, maps[-1])
    return FlowARSample(maps[-1], maps, num_calls)
