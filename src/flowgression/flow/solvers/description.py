"""What there is to know about a solver, as a value: callers read it, and compare no names."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from flowgression.errors import InputError, did_you_mean
from flowgression.flow.solvers.base import SolverOutput
from flowgression.flow.times import given_times, uniform_times

_GIVEN = {"velocity", "x", "times", "state", "noise", "callback"}
Options = Mapping[str, Any]


def _uniform(num_inference_steps: int, options: Options, dtype: torch.dtype) -> Tensor:
    return uniform_times(num_inference_steps, dtype=dtype)


@dataclass(frozen=True, kw_only=True)
class Solver:
    """A solver and what callers need to know of it.

    Attributes:
        name: in `SOLVERS`; aliases: other names in use.
        integrate: (velocity, x, times, state, *, callback, **options) -> SolverOutput; adaptive ones take neither
            state nor callback.
        nfe: (num_inference_steps, options) -> evaluations of the velocity; None where the solver decides.
        own_grid: (num_inference_steps, options, dtype) -> its times from noise t = 0 to data t = 1.
        evaluated_at: grid -> the times of its evaluations, rising with the walk, as far as they are known before it;
            only speed depends on it.
        extra_steps: options -> steps that it adds behind the last of its times.
        adaptive: it chooses its own steps between the ends of its times, and may repeat some, so that models whose
            calls read earlier ones cannot use it.
        needs_noise: it wants `noise`, one N(0, I) tensor a step.
        reads_path: it has an option `path`, what the velocity was trained on.
        one_slope: a step is its length times one slope at its start, so that the average velocity over the step makes
            it exact (`flow.average`).
        derivatives: how many derivatives of x by t it reads: with 2, velocity(x, t, state) -> ((v, a), state).
    """

    name: str
    integrate: Callable[..., SolverOutput]
    nfe: Callable[[int, Options], int] | None
    aliases: Sequence[str] = ()
    own_grid: Callable[[int, Options, torch.dtype], Tensor] = _uniform
    evaluated_at: Callable[[Tensor], Tensor] = lambda grid: grid[:-1]
    extra_steps: Callable[[Options], int] = lambda options: 0
    adaptive: bool = False
    needs_noise: bool = False
    one_slope: bool = False
    derivatives: int = 1

    @property
    def short_name(self) -> str:
        """What people call it."""
        return self.aliases[0] if self.aliases else self.name

    @property
    def options(self) -> list[str]:
        """The names of its own options."""
        return [name for name in inspect.signature(self.integrate).parameters if name not in _GIVEN]

    @property
    def reads_path(self) -> bool:
        """Whether it has to know the path that the velocity was trained on."""
        return "path" in self.options

    def check_options(self, options: Options) -> None:
        """Raise InputError for an option that the solver does not have."""
        for name in options:
            if name not in self.options:
                raise InputError(
                    f"solver {self.name!r} has no option {name!r}: {did_you_mean(name, sorted(self.options))}"
                )

    def grid(self, num_inference_steps: int, times: Sequence[float] | Tensor | None, options: Options) -> Tensor:
        """`times`, checked, or the solver's own grid of n steps.

        Raises:
            InputError: times that are no grid, or fewer than one step.
        """
        return self.own_grid(num_inference_steps, options, torch.float32) if times is None else given_times(times)

    def num_steps(self, grid: Tensor, options: Options) -> int:
        """How often its callback is called on `grid`; 0 for an adaptive solver."""
        return 0 if self.adaptive else len(grid) - 1 + self.extra_steps(options)
