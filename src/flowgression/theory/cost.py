"""Counting what a computation does, free of noise: FLOPs, and memory of live tensors."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch

from flowgression.flops import flop_counter
from flowgression.memory import LiveTensors


class Counted(NamedTuple):
    """flops: FLOPs as `flowgression.flops` counts them. peak_bytes: the most that tensors made on the way took at one
    time; scratch memory inside of a kernel is not seen.
    """

    flops: int
    peak_bytes: int


def count(compute: Callable[[], Any]) -> Counted:
    """Run `compute` once, without gradients, counting."""
    flops, memory = flop_counter(), LiveTensors()
    with torch.no_grad(), flops, memory:
        compute()
    return Counted(flops.get_total_flops(), memory.peak)
