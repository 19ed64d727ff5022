"""Passing small values from the main process to all others, and parting from them without waiting for ever."""

import pickle
from collections import deque
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

# A thread of gloo lets go of a tensor only after the operation on it has returned. If nobody else held it by then, the
# thread would wait for Python's lock, which a process that is leaving may hold while it waits for the thread.
_KEPT: deque[Tensor] = deque(maxlen=16)


# DistributedDataParallel holds Python's lock when it is deleted. If it were the last to hold the group, it would wait,
# with the lock, for threads of gloo that may be waiting for the lock. A reference from Python is let go without it.
_GROUPS: list[Any] = []


def keep_process_group() -> None:
    """Hold the process group, if there is one, until another takes its place or the process ends."""
    if dist.is_available() and dist.is_initialized():
        _GROUPS[:] = [dist.group.WORLD]


def from_main(value: Any, device: torch.device | str = "cpu") -> Any:
    """What the main process passes for `value`, on every process; all of them have to call it.

    Args:
        value: anything that can be pickled; what the others pass does not matter.
        device: where the process group works.
    """
    if not (dist.is_available() and dist.is_initialized()):
        return value
    is_main = dist.get_rank() == 0
    data = torch.frombuffer(bytearray(pickle.dumps(value)), dtype=torch.uint8).to(device)
    size = torch.tensor([len(data)], device=device)
    dist.broadcast(size, 0)
    if not is_main:
        data = torch.empty(int(size), dtype=torch.uint8, device=device)
    dist.broadcast(data, 0)
    _KEPT.extend((size, data))
    return value if is_main else pickle.loads(data.cpu().numpy().tobytes())
