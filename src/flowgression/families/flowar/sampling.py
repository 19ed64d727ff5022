"""Sampling from FlowAR (arXiv 2412.15205, section 3.4): scale by scale, each drawn by the flow head.

At every scale the transformer runs once, on the map of the scale before and the key-value cache, whatever the number
of flow steps; then the flow head is integrated from t = 0 (noise) to t = 1 (data).

B: images, C: channels, P: patch size, K: scales with sides s_k in tokens. A map of scale k is [B, C, s_k P, s_k P].
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

import torch
from torch import Generator, Tensor
from torch.nn.functional import one_hot

from flowgression.errors import InputError
from flowgression.families.flowar.flow_head import FlowHead, ReadSemantics
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.outputs import FlowARCache
from flowgression.families.flowar.scales import area_resize, pyramid, to_map
from flowgression.families.flowar.schedules import annealed_steps, guidance_ramp, scale_times
from flowgression.flow.guidance import Guidance
from flowgression.flow.solvers import Noise, Solver
from flowgression.layers.patches import patchify
from flowgression.sampling.between import Label, network_labels
from flowgression.sampling.common import step_at
from flowgression.sampling.edit import Edit
from flowgression.sampling.noise import image_generators, noise_like
from flowgression.sampling.options import ScaleOptions, make_options, split_settings, takes
from flowgression.sampling.prepared import PreparedTimes
from flowgression.sampling.request import Sampling, ids_of, predicts_averages, settle

LEAST_TOLERANCE = 1e-3  # of adaptive solvers
ScaleCallback = Callable[[int, Tensor], None]
"""callback(k, map) after each drawn scale, k from 0."""
HeadCall = Callable[[Tensor, float, int], Tensor]
"""call(x [B, T, C], t, rows) -> a derivative [rows, T, C]: of x once, or twice for both halves of guidance."""
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


@takes(ScaleOptions)
def sample(
    model: FlowAR,
    class_labels: Tensor,
    *,
    noise: Sequence[Tensor] | None = None,
    generator: Generator | Sequence[Generator] | None = None,
    coarse_maps: Sequence[Tensor] = (),
    cache: FlowARCache | None = None,
    use_cache: bool = True,
    callback: ScaleCallback | None = None,
    method: Solver | None = None,
    guide: Any = None,
    **settings: Any,
) -> FlowARSample:
    """Latents of given classes.

    Args:
        model: in any floating dtype; the flow is integrated in float64 (float32 where the device has no float64).
        class_labels: [B] int64 in 0 .. num_classes, on the model's device; the last is the null label (no class).
        noise: one tensor [B, s_k^2, P P C] ~ N(0, I) per scale; None: drawn from `generator`.
        generator: one generator, or one per image, so that an image does not depend on its batch.
        coarse_maps: the maps of the first scales, which are then taken as given; see `coarse_maps_of`.
        cache: an empty cache for B images (2B with guidance) whose memory is used; None makes one.
        use_cache: False computes all coarser scales again at every scale instead.
        callback: callback(k, map) after each drawn scale.
        method: a solver of the caller's own instead of the named one.
        guide: the model of `guidance_model`, of this class.
        settings: sampling options; any other keyword is an option of the solver.

    The guidance scale is s at the last scale, and 1 + (s - 1)(k - 1) / (K - 1) at scale k. Outside of the guidance
    interval only the class half of the flow head runs. The released samplers guide at t in (0.1, 1) and (0.3, 1).

    Raises:
        InputError: whatever cannot work, before the network is called.
    """
    count = len(class_labels)
    request = settle_request(
        model,
        ids_of(class_labels, count),
        make_options(ScaleOptions, split_settings(settings)),
        method=method,
        callback=callback,
        guide=guide,
    )
    generators = image_generators(generator, count) if noise is None or generator is not None else None
    return walk(
        model, request, noise=noise, generators=generators, coarse_maps=coarse_maps, cache=cache, use_cache=use_cache
    )


def settle_request(model: FlowAR, class_ids: Sequence[Label], options: ScaleOptions, **given: Any) -> Sampling:
    """The settled request for images of these classes; arguments and errors as of `sampling.request.settle`."""
    return settle(model, class_ids, options, derivatives=len(model.flow_heads), **given)


@torch.no_grad()
def walk(
    model: FlowAR,
    request: Sampling,
    *,
    noise: Sequence[Tensor] | None = None,
    generators: Sequence[Generator] | None = None,
    coarse_maps: Sequence[Tensor] = (),
    cache: FlowARCache | None = None,
    use_cache: bool = True,
) -> FlowARSample:
    """`sample` of a request that is settled, with a generator for each image."""
    options, guidance, solver = request.options, request.guidance, request.solver
    count = len(request.class_ids)
    last = _check_maps(model, coarse_maps, options.num_scales, count)
    class_labels = network_labels(request.class_ids, model.config.num_classes, model.device)
    noise = _checked_noise(model, noise, generators, class_labels)
    extra = dict(request.solver_options)
    if solver.adaptive:
        extra = _reachable(extra)
    grids = _grids(model, solver, options, extra)
    edits = None if request.edit is None or request.edit.mask is None else _edits_of_scales(model, request.edit, last)
    ramp = guidance_ramp(options.guidance_scale, len(model.scales))
    if solver.needs_noise and generators is None:
        generators = image_generators(None, count)
    guide = request.guide
    read = _make_reader(model, class_labels, guidance.enabled and guide is None, cache, use_cache, last)
    read_guide = None if guide is None else _make_reader(guide, class_labels, False, None, use_cache, last)

    heads = model.flow_heads[: solver.derivatives]
    times = _prepared(model, heads, solver, grids, class_labels.device)
    guide_heads = [] if guide is None else guide.flow_heads[: solver.derivatives]
    guide_times = _prepared(guide, guide_heads, solver, grids, class_labels.device) if guide_heads else []
    maps, num_calls = [each.float() for each in coarse_maps], 0
    for k in range(len(maps), last):
        here = model.scales[k : k + 1]
        calls = _calls(heads, read(maps), here, times[k])
        worse = [] if read_guide is None else _calls(guide_heads, read_guide(maps), here, guide_times[k])
        derivatives = _derivatives(calls, worse, replace(guidance, scale=ramp[k]), grids[k].tolist())
        z = noise[k].to(_wide(noise[k]))
        if solver.needs_noise:
            extra["noise"] = _step_noise(z, generators)
        if edits is not None:
            extra["callback"] = edits[k].keeping(z, None)
        drawn = solver.integrate(derivatives, z, grids[k], **extra)
        maps.append(to_map(drawn.sample.float(), model.config.patch_size))
        num_calls += drawn.num_calls
        if request.callback is not None:
            request.callback(k, maps[-1])
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


def coarse_maps_of_edit(model: FlowAR, edit: Edit) -> list[Tensor]:
    """The maps of the scales that are taken from an image: a share of 1 - strength of them, and never the last."""
    count = min(round((1 - edit.strength) * len(model.scales)), len(model.scales) - 1)
    return coarse_maps_of(model, edit.image, count) if count else []


def _edits_of_scales(model: FlowAR, edit: Edit, last: int) -> list[Edit]:
    """The image and the mask as the tokens [B, s_k^2, P P C] of each scale, drawn anew wherever the mask touches."""
    patch = model.config.patch_size
    if last < len(model.scales):
        raise InputError(
            f"mask_image is of the whole image, but num_scales={last} stops before; leave one of both out."
        )

    def at(side: int) -> Edit:
        return edit.mapped(lambda each: patchify(area_resize(each, side * patch), patch), strength=1.0)

    return [at(side) for side in model.scales]


def noise_shapes(model: FlowAR, batch_size: int) -> list[tuple[int, int, int]]:
    """The shapes [B, s_k^2, P P C] of the noise of all scales."""
    channels = model.config.in_channels * model.config.patch_size**2
    return [(batch_size, side**2, channels) for side in model.scales]


def _reachable(extra: Mapping[str, Any]) -> dict[str, Any]:
    """Tolerances that an adaptive solver can reach on a velocity that jumps 1000 times between noise and data.

    Raises:
        InputError: smaller ones, for which its steps would shrink without end.
    """
    wanted = {"rtol": LEAST_TOLERANCE, "atol": LEAST_TOLERANCE, **extra}
    for name in ("rtol", "atol"):
        if wanted[name] < LEAST_TOLERANCE:
            raise InputError(
                f"{name}={wanted[name]:g}: FlowAR's flow head sees time in thousandths, so that its velocity jumps; "
                f"tolerances below {LEAST_TOLERANCE:g} are not reached. Use that, or a solver with fixed steps."
            )
    return wanted


def _grids(model: FlowAR, solver: Solver, options: ScaleOptions, extra: Mapping[str, Any]) -> list[Tensor]:
    """The times of every scale."""
    if options.times is not None and options.steps_last_scale is not None:
        raise InputError("steps_last_scale changes the number of steps, but times fixes them; give one of both.")
    steps = annealed_steps(options.num_inference_steps, options.steps_last_scale, len(model.scales))
    return [scale_times(solver, n, options.time_grid, options.times, extra) for n in steps]


def _prepared(
    model: FlowAR, heads: Sequence[FlowHead], solver: Solver, grids: Sequence[Tensor], device: torch.device
) -> list[list[PreparedTimes]]:
    """By scale and head, what the head makes of the times; made once for all scales, unless the ends of steps count."""

    def prepared(times: Tensor, ends: Tensor | None) -> list[PreparedTimes]:
        return [
            PreparedTimes(head.prepare, times, sum(head.prepared_sizes) * model.dtype.itemsize, device, ends)
            for head in heads
        ]

    evaluated = [solver.evaluated_at(grid) for grid in grids]
    if not predicts_averages(model):
        return [prepared(torch.cat(evaluated).unique(), None)] * len(grids)
    return [
        prepared(times, grid[1:] if solver.one_slope else times) for times, grid in zip(evaluated, grids, strict=True)
    ]


def _calls(
    heads: Sequence[FlowHead], semantics: Tensor, here: Sequence[int], times: Sequence[PreparedTimes]
) -> list[HeadCall]:
    """Calls of the flow heads that have read a scale's semantics, of the first so many rows of them."""

    def call(head: FlowHead, seen: ReadSemantics, times: PreparedTimes) -> HeadCall:
        return lambda x, t, rows: head(x, None, seen.first(rows), prepared=times.at(t)).to(x.dtype)

    return [call(head, head.read(semantics, here), each) for head, each in zip(heads, times, strict=True)]


def _derivatives(
    calls: Sequence[HeadCall], worse: Sequence[HeadCall], guidance: Guidance, stops: list[float]
) -> Callable[..., Any]:
    """The guided derivatives of one scale: what each flow head gives that has read the semantics.

    calls: by head, of B maps, or of 2B with the class half first. worse: those of a guide, which then stand for the
    second half. One head gives a velocity; two give ((velocity, acceleration), state).
    """

    def derivatives(x: Tensor, t: Tensor, state: None) -> tuple[Any, None]:
        time, count = float(t), len(x)
        guided = guidance.active(time, step_at(stops, time))
        found = [call(x, time, 2 * count if guided and not worse else count) for call in calls]
        if guided:
            halves = [each.chunk(2) for each in found]
            if worse:
                halves = [(each, call(x, time, count)) for each, call in zip(found, worse, strict=True)]
            found = [guidance.combine(*each) for each in halves]
        return (found[0] if len(found) == 1 else tuple(found)), state

    return derivatives


def _step_noise(z: Tensor, generators: Sequence[Generator] | None) -> Noise:
    """The noise of a scale's steps, each image's from its own generator."""
    assert generators is not None
    return lambda step: noise_like(z.shape, generators, device=z.device)


def _make_reader(
    model: FlowAR, class_labels: Tensor, guided: bool, cache: FlowARCache | None, use_cache: bool, num_scales: int
) -> Reader:
    """The transformer with or without a cache; with guidance it reads every map twice, the null half second."""
    halves = 2 if guided else 1
    labels = torch.cat([class_labels, _null_like(class_labels, model.config.num_classes)]) if guided else class_labels
    if not use_cache:
        return lambda maps: model.semantics([torch.cat([each] * halves) for each in maps], labels)[-1]
    if cache is not None and cache.scale:
        raise InputError(f"the cache already holds {cache.scale} scales; give an empty one, from FlowAR.new_cache.")
    read_labels = model.read_labels(labels)
    current = model.new_cache(len(labels), max_scales=num_scales) if cache is None else cache

    def read(maps: list[Tensor]) -> Tensor:
        nonlocal current
        while current.scale <= len(maps):  # given coarse maps are read here too
            previous = maps[current.scale - 1] if current.scale else None
            semantics, current = model.next_semantics(previous, read_labels, current)
        return semantics

    return read


def _null_like(class_labels: Tensor, null: int) -> Tensor:
    """As many null labels, or mixtures of nothing else."""
    if not class_labels.is_floating_point():
        return torch.full_like(class_labels, null)
    return one_hot(class_labels.new_full(class_labels.shape[:1], null, dtype=torch.int64), null + 1).to(class_labels)


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
    generators: Sequence[Generator] | None,
    class_labels: Tensor,
) -> list[Tensor]:
    """The noise of every scale on the device of the labels. Drawn for all scales, so that no option changes it."""
    shapes = noise_shapes(model, len(class_labels))
    device = class_labels.device
    if noise is None:
        assert generators is not None
        return [noise_like(shape, generators, device=device) for shape in shapes]
    if [tuple(each.shape) for each in noise] != shapes:
        raise InputError(
            f"noise must be one tensor per scale of shapes {[list(shape) for shape in shapes]}; "
            f"got {[list(each.shape) for each in noise]}."
        )
    return [each.to(device) for each in noise]
