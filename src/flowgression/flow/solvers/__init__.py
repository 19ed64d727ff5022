"""Solvers: plain functions of (velocity, x, times, state) that integrate a flow from one time to another.

    euler, heun         ode.py        fixed steps, any direction of time
    euler_maruyama      sde.py        stochastic, from noise t = 0 towards data t = 1
    dopri5              adaptive.py   adaptive steps, models without state

The velocity is `velocity(x, t, state) -> (v, state)`; the state is an opaque value that the solver hands from one
step to the next and returns at the end. Nothing is remembered between calls, and memory does not grow with the steps.
"""

from collections.abc import Callable

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.solvers.adaptive import dopri5
from flowgression.flow.solvers.base import Callback, SolverOutput, Velocity
from flowgression.flow.solvers.ode import euler, heun
from flowgression.flow.solvers.sde import Noise, euler_maruyama

SOLVERS: dict[str, Callable[..., SolverOutput]] = {
    "euler": euler,
    "heun": heun,
    "euler_maruyama": euler_maruyama,
    "dopri5": dopri5,
}


def get_solver(name: str) -> Callable[..., SolverOutput]:
    """The solver called `name` in SOLVERS; InputError with the nearest name for any other."""
    if name not in SOLVERS:
        raise InputError(f"Unknown solver {name!r}. {did_you_mean(name, SOLVERS)}")
    return SOLVERS[name]


__all__ = [
    "SOLVERS",
    "Callback",
    "Noise",
    "SolverOutput",
    "Velocity",
    "dopri5",
    "euler",
    "euler_maruyama",
    "get_solver",
    "heun",
]
