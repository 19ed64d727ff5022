"""What the samplers of all families share: checks before the network is called, guidance, and the walk of a solver.

Letters: B images, C H W channels and size of a latent.
"""

from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.flow.solvers import Solver, SolverOutput, Velocity
from flowgression.sampling.between import labels_and_rows
from flowgression.sampling.prepared import PreparedTimes
from flowgression.sampling.request import Sampling, predicts_averages

SampleOutput = SolverOutput
"""sample [B,C,H,W]; the state after the last step (None for models without one); num_calls: NFE."""
Call = Callable[[Tensor, Tensor, Any], tuple[Tensor, Any]]
"""call(x [B,C,H,W], prepared [R,F], state) -> (velocity [R,C,H,W], state): a model; R is B or 2B."""


def check_noise(solver: Solver, noise: object) -> None:
    """InputError unless noise is there exactly where the solver needs some."""
    if noise is not None and not solver.needs_noise:
        raise InputError(f"solver {solver.name!r} uses no noise; leave noise out, or use solver 'sde'.")
    if noise is None and solver.needs_noise:
        raise InputError("an SDE needs noise=: one tensor like z for each step, or a function of the step's index.")


def check_noise_sample(config: Any, z: Tensor, rows: int) -> None:
    """InputError unless z is noise [rows, C, H, W], floating, of the channels that `config` says."""
    if z.ndim != 4 or not z.is_floating_point() or z.shape[1] != config.in_channels or len(z) != rows:
        raise InputError(
            f"z must be noise [B, {config.in_channels}, H, W], one for each of {rows} labels; got {list(z.shape)} of "
            f"{z.dtype}."
        )


def guided_velocity(
    make_call: Callable[[Any], Call], model: Any, request: Sampling, device: torch.device, *, stateful: bool
) -> Velocity:
    """The velocity that a solver walks: calls of `model`, guided where guidance applies.

    A guided call has B rows of the same images for each of `guidance.weights`, the conditional ones first; those of a
    guide are calls of its own. Where guidance is off the conditional rows run alone, but in a model with a state
    (`stateful`) all do: each reads and advances its own.

    make_call: a model -> how it is called. device: of the images.
    """
    guidance, stops = request.guidance, request.whole_grid.tolist()
    kinds = ["cond"] if request.guide is not None else list(guidance.weights)
    rows = conditioned(make_call(model), model, request, kinds, device)
    guide = None
    if request.guide is not None:
        guide = conditioned(make_call(request.guide), request.guide, request, ["cond"], device)

    def velocity(x: Tensor, t: Tensor, states: Any) -> tuple[Tensor, Any]:
        state, other = states if guide is not None and stateful else (states, None)
        guided = guidance.active(float(t), step_at(stops, float(t)))
        all_rows = guided or (stateful and guidance.enabled)
        v, state = rows(x, t, state, all_rows)
        parts = v.chunk(len(kinds)) if all_rows else (v,)
        if guide is not None and all_rows:
            worse, other = guide(x, t, other, True)
            parts = (v, worse)
        new_states = (state, other) if guide is not None and stateful else state
        return (guidance.combine(*parts) if guided else parts[0]), new_states

    return velocity


def step_at(stops: list[float], t: float) -> int:
    """The number of the step, from 0, of a rising grid to which a time belongs."""
    return min(max(bisect_right(stops, t) - 1, 0), max(len(stops) - 2, 0))


Rows = Callable[[Tensor, Tensor, Any, bool], tuple[Tensor, Any]]
"""rows(x [B,C,H,W], t, state, all_rows) -> (velocities of B rows or of those of all kinds, state)."""


def conditioned(call: Call, model: Any, request: Sampling, kinds: Sequence[str], device: torch.device) -> Rows:
    """Calls of one model on rows of the request's classes and, where `kinds` say so, of no class.

    Where the solver's steps are of one slope each, a model of average velocities gives that of the whole step; else the
    velocity at its time.
    """
    null, count = model.config.num_classes, len(request.class_ids)
    ids = [null if name == "null" else label for name in kinds for label in request.class_ids]
    different = list(dict.fromkeys(ids))  # what is prepared once for all images
    row_of = {label: row for row, label in enumerate(different)}
    labels, of_all = labels_and_rows(different, [row_of[label] for label in ids], null, device)
    of_class = of_all[:count]
    step_bytes = len(different) * sum(model.prepared_sizes) * model.dtype.itemsize
    times, ends = request.solver.evaluated_at(request.grid), None
    if predicts_averages(model):
        ends = request.grid[1:] if request.solver.one_slope else times
    prepared = PreparedTimes(lambda t, *r: model.prepare(t, labels, *r), times, step_bytes, device, ends=ends)

    def rows(x: Tensor, t: Tensor, state: Any, all_rows: bool) -> tuple[Tensor, Any]:
        v, state = call(x.to(model.dtype), prepared.at(float(t))[of_all if all_rows else of_class], state)
        return v.to(x.dtype), state

    return rows


def denoise(
    make_call: Callable[[Any], Call],
    model: Any,
    z: Tensor,
    request: Sampling,
    *,
    new_state: Callable[[Any, int], Any] | None = None,
) -> SampleOutput:
    """Walk from noise z [B,C,H,W] at t = 0 to data at t = 1; see `families.arflow.sampling.sample` for the result.

    make_call: a model -> how it is called.
    new_state: a model, a number of rows -> the state before the first step, for models that read one.

    The sample is held in float32, also for a model in half precision (in float64 if z is).

    Raises:
        InputError: noise of another shape, for the start or for the steps; a grid that the solver cannot walk.
    """
    solver, edit, stateful = request.solver, request.edit, new_state is not None
    check_noise_sample(model.config, z, len(request.class_ids))
    check_noise(solver, request.noise)
    extra, grid = dict(request.solver_options), request.grid
    z = z if z.dtype == torch.float64 else z.float()
    if solver.needs_noise:
        extra["noise"] = request.noise
    if not solver.adaptive:
        extra["callback"] = request.callback if edit is None else edit.keeping(z, request.callback)
    velocity = guided_velocity(make_call, model, request, z.device, stateful=stateful)
    if new_state is not None:  # so that the first step is called as all others are
        if request.guide is None:
            extra["state"] = new_state(model, len(z) * len(request.guidance.weights))
        else:
            extra["state"] = tuple(new_state(each, len(z)) for each in (model, request.guide))
        if edit is not None:  # steps that the walk leaves out are read all the same
            for t in edit.skipped(request.whole_grid):
                _, extra["state"] = velocity(edit.noised(z, float(t)), t, extra["state"])
    output = solver.integrate(velocity, z if edit is None else edit.start(z), grid, **extra)
    return output._replace(state=output.state[0]) if stateful and request.guide is not None else output


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` >= 2 of the indices 0 .. count - 1, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]
