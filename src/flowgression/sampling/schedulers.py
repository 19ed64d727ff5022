"""Flow-matching schedulers of diffusers as solvers: `pipe.scheduler = FlowMatchEulerDiscreteScheduler(...)`.

diffusers counts noise levels sigma = 1 - t, and its velocity points from data to noise; a scheduler keeps the steps
before it in itself, and is set anew at the start of every walk.
"""

import inspect
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from diffusers import FlowMatchEulerDiscreteScheduler
from torch import Generator, Tensor

from flowgression.errors import InputError, reading
from flowgression.flow.solvers import Callback, Solver, SolverOutput, Velocity
from flowgression.flow.solvers.base import check_sample, evaluate
from flowgression.sampling.noise import SharedGenerator


def as_solver(scheduler: Any, path: str, generators: Sequence[Generator]) -> Solver:
    """The solver that a scheduler is: one evaluation of the velocity and one advance of the state a step.

    Args:
        scheduler: FlowMatchEulerDiscreteScheduler, or a multistep one in its flow form (use_flow_sigmas=True,
            prediction_type="flow_prediction"), such as UniPC and DPM-Solver++. Its grid is n equal steps, to which it
            applies its own shift.
        path: of the model; schedulers assume the linear one.
        generators: of the images, for schedulers that draw noise.

    Raises:
        InputError: a scheduler of something else, or one that cannot walk this model.
    """
    check_scheduler(scheduler, path)

    def own_grid(num_inference_steps: int, options: Mapping[str, Any], dtype: torch.dtype) -> Tensor:
        return 1 - _noise_levels(scheduler, num_inference_steps).to(dtype)

    def integrate(
        velocity: Velocity, x: Tensor, times: Tensor, state: Any = None, *, callback: Callback | None = None
    ) -> SolverOutput:
        check_sample(x)
        levels = _noise_levels(scheduler, len(times) - 1)
        drawn = generators[0] if isinstance(generators, SharedGenerator) else list(generators)
        draws = {"generator": drawn} if "generator" in inspect.signature(scheduler.step).parameters else {}
        for step, timestep in enumerate(scheduler.timesteps):
            v, state = evaluate(velocity, x, 1 - levels[step], state)
            x = scheduler.step(-v, timestep, x, return_dict=False, **draws)[0].to(x.dtype)
            if callback is not None:
                callback(step, 1 - float(levels[step + 1]), x)
        return SolverOutput(x, state, len(levels) - 1)

    return Solver(name=type(scheduler).__name__, integrate=integrate, nfe=lambda n, options: n, own_grid=own_grid)


def check_scheduler(scheduler: Any, path: str) -> None:
    """Raise InputError unless `scheduler` can walk a flow on `path` by one call of the network a step."""
    name, config = type(scheduler).__name__, getattr(scheduler, "config", {})
    in_flow_form = config.get("use_flow_sigmas") and config.get("prediction_type") == "flow_prediction"
    if not (isinstance(scheduler, FlowMatchEulerDiscreteScheduler) or in_flow_form):
        raise InputError(
            f"{name} does not walk a flow; use FlowMatchEulerDiscreteScheduler, or UniPC or DPM-Solver++ with "
            "use_flow_sigmas=True and prediction_type='flow_prediction'."
        )
    if getattr(scheduler, "order", 1) != 1:
        raise InputError(f"{name} calls the network more than once a step; use solver='heun' of this library.")
    if config.get("use_dynamic_shifting") or config.get("invert_sigmas"):
        raise InputError(f"{name} with use_dynamic_shifting or invert_sigmas is for other models; leave both off.")
    if path != "linear":
        raise InputError(f"{name} assumes the linear path, but this model was trained on {path!r}; use our solvers.")


def _noise_levels(scheduler: Any, num_inference_steps: int) -> Tensor:
    """Set the scheduler to its start. Returns its noise levels [n + 1] from about 1 to 0, on the CPU."""
    if num_inference_steps < 1:
        raise InputError(f"num_inference_steps must be an integer >= 1, not {num_inference_steps!r}.")
    with reading(f"the configuration of {type(scheduler).__name__}", "make the scheduler again."):
        if "sigmas" in inspect.signature(scheduler.set_timesteps).parameters:
            levels = torch.linspace(1, 0, num_inference_steps + 1, dtype=torch.float64)[:-1]
            scheduler.set_timesteps(sigmas=levels.numpy(), device="cpu")
        else:
            scheduler.set_timesteps(num_inference_steps, device="cpu")
    return scheduler.sigmas.cpu()
