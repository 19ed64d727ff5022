"""Memory of live tensors, counted and so free of noise; fake tensors count like real ones."""

import weakref
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class LiveTensors(TorchDispatchMode):
    """Adds up the memory of tensors that were made inside the context and still exist.

    Every storage counts once, whatever views of it there are. Scratch memory inside a kernel is not seen, nor what an
    allocator loses between tensors.

    Attributes:
        live: bytes now.
        peak: the largest `live` so far.
        marked, marked_at_peak: bytes of the tensors given to `mark`, now and when `live` was largest.
    """

    def __init__(self) -> None:
        super().__init__()
        self.live = self.peak = self.marked = self.marked_at_peak = 0
        self._sizes: dict[int, int] = {}  # storage -> bytes it counts
        self._marked: set[int] = set()

    def mark(self, tensor: Tensor, share: float = 1.0) -> None:
        """Count `tensor` at `share` of its size from here on, and among `marked`; once is enough for a storage."""
        key = tensor.untyped_storage()._cdata
        if key not in self._sizes or key in self._marked:
            return
        size = round(share * self._sizes[key])
        self.live += size - self._sizes[key]
        self.marked += size
        self._sizes[key] = size
        self._marked.add(key)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {leaf.untyped_storage()._cdata for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)}
        for leaf in tree_leaves(result):
            if isinstance(leaf, Tensor) and leaf.untyped_storage()._cdata not in given:
                self._add(leaf.untyped_storage())
        return result

    def _add(self, storage: torch.UntypedStorage) -> None:
        key = storage._cdata
        if key in self._sizes:
            return
        self._sizes[key] = storage.nbytes()
        self.live += storage.nbytes()
        if self.live > self.peak:
            self.peak, self.marked_at_peak = self.live, self.marked
        weakref.finalize(storage, self._remove, key)

    def _remove(self, key: int) -> None:
        size = self._sizes.pop(key)
        self.live -= size
        if key in self._marked:
            self._marked.remove(key)
            self.marked -= size
