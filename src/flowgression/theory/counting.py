"""Counting what a computation does, free of noise: FLOPs, and memory of live tensors."""

import weakref
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from flowgression.flops import flop_counter


class Counted(NamedTuple):
    """flops: FLOPs as `flowgression.flops` counts them. peak_bytes: the most that tensors made on the way took at one
    time; scratch memory inside of a kernel is not seen.
    """

    flops: int
    peak_bytes: int


def count(compute: Callable[[], Any]) -> Counted:
    """Run `compute` once, counting."""
    flops, memory = flop_counter(), _LiveTensors()
    with torch.no_grad(), flops, memory:
        compute()
    return Counted(flops.get_total_flops(), memory.peak)


class _LiveTensors(TorchDispatchMode):
    """Adds up the memory of tensors that were made inside and still exist, and keeps the largest sum."""

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = 0
        self._known: dict[int, int] = {}

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._known:
            return
        self._known[key] = storage.nbytes()
        self.live += storage.nbytes()
        self.peak = max(self.peak, self.live)
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        self.live -= self._known.pop(key)
