"""What a person may do between two steps of a pipeline: watch, change the latents, stop; by the names of diffusers."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from flowgression.errors import InputError, did_you_mean

TENSORS = ("latents",)
TIMESTEPS = 1000  # diffusers counts noise from 0 to this


class Interrupted(Exception):
    """A person set `pipe._interrupt` between two steps; `latents` are those of the last one."""

    def __init__(self, latents: Tensor) -> None:
        super().__init__("interrupted")
        self.latents = latents


@dataclass(frozen=True)
class StepEnd:
    """`callback_on_step_end` of a call.

    callback: callback(pipe, step, timestep, tensors) -> tensors, of which changed latents are taken over; None: none.
    tensors: names of what it gets, among "latents".
    """

    callback: Callable[..., Any] | None = None
    tensors: Sequence[str] = TENSORS

    def __post_init__(self) -> None:
        for name in self.tensors:
            if name not in TENSORS:
                raise InputError(f"callback_on_step_end_tensor_inputs: {name!r}; {did_you_mean(name, TENSORS)}")

    def __call__(self, pipe: Any, step: int, t: float, x: Tensor) -> None:
        """After step `step`, which led to x at time t (0 is noise). Raises Interrupted if the person stops here."""
        if self.callback is not None:
            found = self.callback(pipe, step, TIMESTEPS * (1 - t), dict.fromkeys(self.tensors, x))
            latents = found.get("latents", x) if isinstance(found, Mapping) else x
            if latents is not x:
                x.copy_(latents)
        if pipe.interrupt:
            raise Interrupted(x)


def with_times(
    settings: Mapping[str, Any], sigmas: Sequence[float] | None, timesteps: Sequence[float] | None
) -> dict[str, Any]:
    """Sampling options with the times that diffusers' `sigmas` or `timesteps` say, if they are given.

    Raises:
        InputError: both are given, or times too.
    """
    times = times_of(sigmas, timesteps)
    if times is None:
        return dict(settings)
    if settings.get("times") is not None:
        raise InputError("times, sigmas and timesteps are ways to say the same; give one of them.")
    return {**settings, "times": times}


def times_of(sigmas: Sequence[float] | None, timesteps: Sequence[float] | None) -> list[float] | None:
    """Times from noise (0) to data (1) for noise levels `sigmas` (1 is noise) or `timesteps` (1000 is noise).

    As in diffusers, the end, without noise, is added where it is not given.

    Raises:
        InputError: both are given.
    """
    if sigmas is not None and timesteps is not None:
        raise InputError("sigmas and timesteps are two ways to say the same; give one of them.")
    if sigmas is None and timesteps is None:
        return None
    levels = [float(each) for each in sigmas] if sigmas is not None else [float(t) / TIMESTEPS for t in timesteps or []]
    return [1 - level for level in levels] + ([] if levels and levels[-1] == 0 else [1.0])
