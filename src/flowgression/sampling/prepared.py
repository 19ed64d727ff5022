"""What a network makes of the time alone, made for many steps of a walk at once."""

from collections.abc import Callable

import torch
from torch import Tensor

MOST_BYTES = 2**28
"""What is made ahead takes at most so much memory, or one step's worth."""


class PreparedTimes:
    """`prepare` of the times of a walk, in groups as large as the memory set aside for them allows.

    Args:
        prepare: times [n], with `ends` also the ends [n] of their intervals -> [n, ...], each row of its own alone.
        times: on the CPU, those at which `at` will be called, in this order; it may be called at others.
        step_bytes: memory of what `prepare` makes of one time.
        device: where `prepare` wants them; they are handed over once, in double precision where the device has it.
        ends: of the interval from each of `times` on, where the network reads one; any other time is its own end.
    """

    def __init__(
        self,
        prepare: Callable[..., Tensor],
        times: Tensor,
        step_bytes: int,
        device: torch.device,
        ends: Tensor | None = None,
    ):
        self._prepare, self._step_bytes = prepare, step_bytes
        self._dtype = torch.float32 if device.type == "mps" else torch.float64
        self._device = device
        self._times = times.to(device=device, dtype=self._dtype)
        self._ends = None if ends is None else ends.to(device=device, dtype=self._dtype)
        self._index = {t: i for i, t in enumerate(times.tolist())}
        self._start, self._group = 0, self._times[:0]

    def at(self, t: float) -> Tensor:
        """`prepare` of the time t, without its first dimension."""
        index = self._index.get(t)
        if index is None:
            time = torch.full((1,), t, dtype=self._dtype, device=self._device)
            return self._prepare(*[time] * (1 if self._ends is None else 2))[0]
        if not self._start <= index < self._start + len(self._group):
            self._make_group(index)
        return self._group[index - self._start]

    def _make_group(self, start: int) -> None:
        self._group = self._times[:0]  # what is no longer needed is freed before more is made
        count = max(MOST_BYTES // self._step_bytes, 1)
        given = [self._times] if self._ends is None else [self._times, self._ends]
        self._start, self._group = start, self._prepare(*(each[start : start + count] for each in given))
