"""Sampling from FlowAR (arXiv 2412.15205, section 3.4): scale by scale, each drawn by the flow head.

At every scale the transformer runs once, on the map of the scale before and the key-value cache, whatever the number
of flow steps; then the flow head is integrated from t = 1 (noise) to t = 0 (data).

B: images, C: channels, P: patch size, K: scales with sides s_k in tokens. A map of scale k is [B, C, s_k P, s_k P].
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.guidance import Guidance
from flowgression.flow.solvers import Velocity, euler, heun
from flowgression.models.flowar.flow_head import ReadSemantics
from flowgression.models.flowar.model import FlowAR, FlowARCache
from flowgression.models.flowar.scales import pyramid, to_map
from flowgression.sampling.common import check_inputs
from flowgression.sampling.flowar_schedules import annealed_steps, guidance_ramp, scale_times
from flowgression.sampling.noise import image_generators, noise_like

SOLVERS = {"euler": euler, "heun": heun}
ScaleCallback = Callable[[int, Tensor], None]
"""callback(k, map) after each drawn scale, k from 0."""
Reader = Callable[[list[Tensor]], Tensor]
"""The transformer in sampling: the maps of the scales so far -> the semantic map of the next one."""


class FlowARSample(NamedTuple):
    """What `sample` returns, float32.

    sample: the last map, [B, C, s P, s P]; the latent itself unless sampling stopped early.
    maps: the maps of all scales so far, coarse to fine, given ones included.
    num_calls: calls of the flow head. The transformer ran once per scale.
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
    guidance = Guidance(guidance_scale, guidance_interval)
    last = _check_maps(model, coarse_maps, num_scales, len(class_labels))
    noise = _checked_noise(model, noise, generator, class_labels)
    check_inputs(model.config, to_map(noise[0], model.config.patch_size), class_labels, guidance)
    if solver not in SOLVERS:
        raise InputError(f"unknown solver {solver!r} for FlowAR. {did_you_mean(solver, SOLVERS)}")
    if times is not None and steps_last_scale is not None:
        raise InputError("steps_last_scale changes the number of steps, but times fixes them; give one of both.")
    steps = annealed_steps(num_inference_steps, steps_last_scale, len(model.scales))
    grids = [scale_times(n, time_grid, times) for n in steps]
    ramp = guidance_ramp(guidance_scale, len(model.scales))
    read = _make_reader(model, class_labels, guidance.enabled, cache, use_cache, last)

    maps, num_calls = [each.float() for each in coarse_maps], 0
    for k in range(len(maps), last):
        semantics = model.flow_head.read(read(maps), model.scales[k : k + 1])
        velocity = _velocity(model, semantics, Guidance(ramp[k], guidance_interval))
        drawn = SOLVERS[solver](velocity, noise[k].to(_wide(noise[k])), grids[k])
        maps.append(to_map(drawn.sample.float(), model.config.patch_size))
        num_calls += drawn.num_calls
        if callback is not None:
            callback(k, maps[-1])
    return FlowARSample(maps[-1], maps, num_calls)


def coarse_maps_of(model: FlowAR, images: Tensor, num_scales: int) -> list[Tensor]:
    """The maps of the first scales of given latents, to be completed by `sample`: variation or super-resolution.

    Args:
        images: [B, C, h, h], of any side h from that of the last map wanted on.
        num_scales: how many scales, at least 1 and fewer than the model has.

    Raises:
        InputError: too many scales, or images too small for them.
    """
    scales, patch = model.scales[:num_scales], model.config.patch_size
    if not 0 < num_scales < len(model.scales):
        raise InputError(
            f"{num_scales} coarse scales are given; expected 1 to {len(model.scales) - 1}, as the model has "
            f"{len(model.scales)} and draws at least the last."
        )
    if images.ndim != 4 or images.shape[2] != images.shape[3] or images.shape[2] < scales[-1] * patch:
        raise InputError(
            f"coarse maps up to scale {num_scales} need square images [B, C, h, h] with h >= {scales[-1] * patch}; "
            f"got {list(images.shape)}."
        )
    return pyramid(images, scales, patch)


def noise_shapes(model: FlowAR, batch_size: int) -> list[tuple[int, int, int]]:
    """The shapes [B, s_k^2, P P C] of the noise of all scales."""
    channels = model.config.in_channels * model.config.patch_size**2
    return [(batch_size, side**2, channels) for side in model.scales]


def _velocity(model: Any, semantics: ReadSemantics, guidance: Guidance) -> Velocity:
    """The guided velocity of one scale; semantics of B maps, or of 2B with the class half first."""

    def velocity(x: Tensor, t: Tensor, state: None) -> tuple[Tensor, None]:
        guided = guidance.active(float(t))
        tokens = torch.cat([x, x]) if guided else x
        # The head rounds 1000 t down. In float32 1000 * 0.65 is 650, as in the released sampler; in float64 it is not.
        time = torch.full((len(tokens),), float(t), device=x.device)
        v = model.flow_head(tokens, time, semantics.first(len(tokens))).to(x.dtype)
        return guidance.combine(*v.chunk(2)) if guided else v, state

    return velocity


def _make_reader(
    model: FlowAR, class_labels: Tensor, guided: bool, cache: FlowARCache | None, use_cache: bool, num_scales: int
) -> Reader:
    """The transformer with or without a cache; with guidance it reads every map twice, the null half second."""
    halves = 2 if guided else 1
    labels = (
        torch.cat([class_labels, torch.full_like(class_labels, model.config.num_classes)]) if guided else class_labels
    )
    if not use_cache:
        return lambda maps: model.semantics([torch.cat([each] * halves) for each in maps], labels)[-1]
    if cache is not None and cache.scale:
        raise InputError(f"the cache already holds {cache.scale} scales; give an empty one, from FlowAR.new_cache.")
    current = model.new_cache(len(labels), num_scales=num_scales) if cache is None else cache

    def read(maps: list[Tensor]) -> Tensor:
        nonlocal current
        while current.scale <= len(maps):  # given coarse maps are read here too
            previous = torch.cat([maps[current.scale - 1]] * halves) if current.scale else None
            semantics, current = model.next_semantics(previous, labels, current)
        return semantics

    return read


def _wide(x: Tensor) -> torch.dtype:
    return torch.float32 if x.device.type == "mps" else torch.float64


def _check_maps(model: FlowAR, coarse_maps: Sequence[Tensor], num_scales: int | None, batch_size: int) -> int:
    """The number of scales at which sampling stops, if the given maps leave something to draw."""
    last = len(model.scales) if num_scales is None else num_scales
    if not 1 <= last <= len(model.scales):
        raise InputError(f"num_scales must be 1 to {len(model.scales)} for this model, not {num_scales}.")
    if len(coarse_maps) >= last:
        raise InputError(f"{len(coarse_maps)} coarse maps are given of {last} scales; nothing is left to draw.")
    for k, each in enumerate(coarse_maps):
        side = model.scales[k] * model.config.patch_size
        expected = (batch_size, model.config.in_channels, side, side)
        if tuple(each.shape) != expected:
            raise InputError(f"coarse map {k + 1} must be {list(expected)}; got {list(each.shape)}.")
    return last


def _checked_noise(
    model: FlowAR,
    noise: Sequence[Tensor] | None,
    generator: Generator | Sequence[Generator] | None,
    class_labels: Tensor,
) -> list[Tensor]:
    """The noise of every scale on the device of the labels. Drawn for all scales, so that no option changes it."""
    shapes = noise_shapes(model, len(class_labels))
    device = class_labels.device
    if noise is None:
        generators = image_generators(generator, len(class_labels))
        return [noise_like(shape, generators, device=device) for shape in shapes]
    if [tuple(each.shape) for each in noise] != shapes:
        raise InputError(
            f"noise must be one tensor per scale of shapes {[list(shape) for shape in shapes]}; "
            f"got {[list(each.shape) for each in noise]}."
        )
    return [each.to(device) for each in noise]
