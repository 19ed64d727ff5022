"""What the samplers of all families share: checks before the network is called, guidance, and the walk of a solver.

Letters: B images, C H W channels and size of a latent.
"""

from collections.abc import Callable
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


def guided_velocity(call: Call, model: Any, request: Sampling, device: torch.device, *, stateful: bool) -> Velocity:
    """The velocity that a solver walks: `call`, guided where guidance applies.

    A guided call has B rows of the same images for each of `guidance.weights`, the conditional ones first. Where
    guidance is off these run alone, but in a model with a state (`stateful`) all do: each reads and advances its own.

    Where the solver's steps are of one slope each, a model of average velocities gives that of the whole step; else
    the velocity at its time.

    device: of the images.
    """
    guidance, count = request.guidance, len(request.class_ids)
    null = model.config.num_classes
    ids = [null if name == "null" else label for name in guidance.weights for label in request.class_ids]
    different = list(dict.fromkeys(ids))  # what is prepared once for all images
    row_of = {label: row for row, label in enumerate(different)}
    labels, of_both = labels_and_rows(different, [row_of[label] for label in ids], null, device)
    of_class = of_both[:count]
    step_bytes = len(different) * sum(model.prepared_sizes) * model.dtype.itemsize
    times, ends = request.solver.evaluated_at(request.grid), None
    if predicts_averages(model):
        ends = request.grid[1:] if request.solver.one_slope else times
    prepared = PreparedTimes(lambda t, *r: model.prepare(t, labels, *r), times, step_bytes, device, ends=ends)

    def velocity(x: Tensor, t: Tensor, state: Any) -> tuple[Tensor, Any]:
        guided = guidance.active(float(t))
        both = guided or (stateful and guidance.enabled)
        v, state = call(x.to(model.dtype), prepared.at(float(t))[of_both if both else of_class], state)
        v = v.to(x.dtype)
        if not both:
            return v, state
        parts = v.chunk(len(guidance.weights))
        return guidance.combine(*parts) if guided else parts[0], state

    return velocity


def denoise(
    call: Call, model: Any, z: Tensor, request: Sampling, *, new_state: Callable[[int], Any] | None = None
) -> SampleOutput:
    """Walk from noise z [B,C,H,W] at t = 0 to data at t = 1; see `families.arflow.sampling.sample` for the result.

    new_state: a number of rows -> the state before the first step, for a model that reads one.

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
    velocity = guided_velocity(call, model, request, z.device, stateful=stateful)
    if new_state is not None:  # so that the first step is called as all others are
        extra["state"] = new_state(len(z) * len(request.guidance.weights))
        if edit is not None:  # steps that the walk leaves out are read all the same
            for t in edit.skipped(request.whole_grid):
                _, extra["state"] = velocity(edit.noised(z, float(t)), t, extra["state"])
    return solver.integrate(velocity, z if edit is None else edit.start(z), grid, **extra)


def evenly_spaced(count: int, most: int) -> list[int]:
    """At most `most` >= 2 of the indices 0 .. count - 1, the first and the last among them."""
    if count <= most:
        return list(range(count))
    return [round(step * (count - 1) / (most - 1)) for step in range(most)]
