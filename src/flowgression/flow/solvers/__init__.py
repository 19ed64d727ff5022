"""Solvers: plain functions of (velocity, x, times, state) that integrate a flow from one time to another.

    euler, heun,
      midpoint          ode.py        fixed steps, any direction of time
    taylor              taylor.py     fixed steps of velocity and acceleration
    euler_maruyama      sde.py        stochastic, from noise t = 0 towards data t = 1
    dopri5              adaptive.py   adaptive steps, models without state

`SOLVERS` describes each: a new solver is its function and an entry there.

The velocity is `velocity(x, t, state) -> (v, state)`; the state is an opaque value that the solver hands from one
step to the next and returns at the end. Nothing is remembered between calls, and memory does not grow with the steps.
"""

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.solvers.adaptive import dopri5
from flowgression.flow.solvers.base import Callback, SolverOutput, Velocity
from flowgression.flow.solvers.description import Options, Solver
from flowgression.flow.solvers.ode import HEUN_LAST_STEPS, euler, euler_step, heun, midpoint, with_middles
from flowgression.flow.solvers.sde import Noise, euler_maruyama, has_last_step, own_times
from flowgression.flow.solvers.taylor import taylor
from flowgression.flow.times import uniform_times


def _ends(num_inference_steps: int, options: Options, dtype: torch.dtype) -> Tensor:
    return uniform_times(1, dtype=dtype)


def _heun_nfe(num_inference_steps: int, options: Options) -> int:
    last = HEUN_LAST_STEPS.get(options.get("last_step", "euler"))
    return 2 * num_inference_steps - (last is euler_step)


SOLVERS: dict[str, Solver] = {
    solver.name: solver
    for solver in (
        Solver(name="euler", integrate=euler, nfe=lambda n, options: n, one_slope=True),
        Solver(name="heun", integrate=heun, nfe=_heun_nfe, evaluated_at=lambda grid: grid),
        Solver(name="midpoint", integrate=midpoint, nfe=lambda n, options: 2 * n, evaluated_at=with_middles),
        Solver(name="taylor", integrate=taylor, nfe=lambda n, options: n, derivatives=2),
        Solver(
            name="euler_maruyama",
            aliases=("sde", "euler-maruyama"),
            integrate=euler_maruyama,
            nfe=lambda n, options: n,
            evaluated_at=lambda grid: grid,
            own_grid=own_times,
            extra_steps=lambda options: int(has_last_step(options)),
            needs_noise=True,
        ),
        Solver(
            name="dopri5", integrate=dopri5, nfe=None, own_grid=_ends, evaluated_at=lambda grid: grid[:0], adaptive=True
        ),
    )
}
SOLVER_NAMES = (*SOLVERS, *(alias for solver in SOLVERS.values() for alias in solver.aliases))


def get_solver(name: str) -> Solver:
    """The solver of this name or alias; InputError with the nearest name for any other."""
    for solver in SOLVERS.values():
        if name == solver.name or name in solver.aliases:
            return solver
    raise InputError(f"Unknown solver {name!r}. {did_you_mean(name, SOLVER_NAMES)}")


__all__ = [
    "SOLVERS",
    "SOLVER_NAMES",
    "Callback",
    "Noise",
    "Solver",
    "SolverOutput",
    "Velocity",
    "dopri5",
    "euler",
    "euler_maruyama",
    "get_solver",
    "heun",
    "midpoint",
    "taylor",
]
