"""A GPU that is simulated on the processor: every number is computed, and every wait of the host is written down.

`SimulatedGpu` is a context in which torch believes in one CUDA device. A tensor there is a `DeviceTensor`: torch sees a
CUDA tensor (its autograd and autocast rules are those of CUDA), while the numbers lie in an ordinary tensor. So real
training and sampling run, with true values, and the context

    raises DeviceMismatch  where an operation gets tensors of the GPU and of the processor, as CUDA does;
    records a wait         where CUDA would make the host wait for the device: a value read, a copy, a mask as an index;
    counts launches        operations that start at least one kernel; views and allocations start none.

What it cannot see: the speed of a kernel, the memory in use, kernels that CUDA lacks, and races between streams.
"""

import sys
from collections import Counter
from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves, tree_map_only

from tests.simulated_gpu.patches import DeviceMismatch, autocast_on, cuda_patches

GPU = torch.device("cuda:0")
aten = torch.ops.aten
_ALLOCATIONS = {"empty", "empty_like", "empty_strided", "new_empty", "new_empty_strided", "empty_permuted"}
_VIEWS = {"detach", "alias", "lift_fresh", "_unsafe_view", "_reshape_alias"}
# Their result's size, or their value, is known to the device alone.
_WAITING = {"_local_scalar_dense", "is_nonzero", "equal", "nonzero", "masked_select", "_unique2", "unique_dim"}
_WAITING |= {"unique_consecutive", "item"}
_INDEXING = {"index", "index_put", "index_put_", "_index_put_impl_", "_unsafe_index"}
_COPIES = {"_to_copy", "copy_", "to"}


class DeviceTensor(Tensor):
    """A tensor of the simulated GPU. `host` holds its numbers."""

    host: Tensor
    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, host: Tensor) -> "DeviceTensor":
        # With CUDA's dispatch keys, torch applies what it does to CUDA tensors: autograd, and casts under autocast.
        made = Tensor._make_subclass(cls, host.detach(), False, dispatch_device=True, device_for_backend_keys=GPU)
        made.host = host.detach()
        return made

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return GPU

    @property
    def is_cuda(self) -> bool:  # type: ignore[override]
        return True

    def tolist(self) -> Any:
        return self.cpu().tolist()

    def __repr__(self, **_: Any) -> str:  # type: ignore[override]
        return f"DeviceTensor({self.host})"

    def __deepcopy__(self, memo: dict[int, Any]) -> Tensor:
        made: Any = DeviceTensor(self.host.clone())
        if isinstance(self, torch.nn.Parameter):
            made = torch.nn.Parameter(made, self.requires_grad)
        memo[id(self)] = made
        return made

    @classmethod
    def __torch_dispatch__(cls, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.ops.prim.device.default:
            return _device_for_torch()
        raise RuntimeError(f"{func} on a tensor of the simulated GPU outside of SimulatedGpu")


def _device_for_torch() -> torch.device:
    """What torch's C++ code sees; Python code always sees the GPU.

    Autograd and indexing need CUDA's driver for a CUDA tensor, and nothing for "meta". Only autocast, which casts
    tensors of its own device alone, is told the truth; where gradients are recorded it cannot be told apart.
    """
    # Autocast hides itself from what it calls. Where it is off it is hidden, too.
    hidden = torch._C._dispatch_tls_is_dispatch_key_excluded(torch._C.DispatchKey.AutocastCUDA)
    casting = hidden and bool(autocast_on) and autocast_on[-1]
    in_backward = torch._C._current_graph_task_id() != -1
    return GPU if casting and not in_backward and not torch.is_grad_enabled() else torch.device("meta")


class SimulatedGpu(TorchDispatchMode):
    """The context; see above.

    Attributes:
        launches: how often each operation started a kernel.
        waits: how often the host waited, by (what for, where): the place is "file.py:function" of this project.
    """

    def __init__(self) -> None:
        super().__init__()
        self._pinned: list[Tensor] = []
        self.reset()

    @classmethod
    def is_infra_mode(cls) -> bool:  # what is cached outside of ordinary modes stays on the device
        return True

    def reset(self) -> None:
        """Count from zero again."""
        self.launches: Counter[str] = Counter()
        self.waits: Counter[tuple[str, str]] = Counter()

    def __enter__(self) -> "SimulatedGpu":
        self._patches = cuda_patches(self)
        self._patches.__enter__()
        return super().__enter__()

    def __exit__(self, *exception: Any) -> None:
        super().__exit__(*exception)
        self._patches.__exit__(*exception)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = dict(kwargs or {})
        if func is torch.ops.prim.device.default:
            return _device_for_torch()
        name = func.overloadpacket.__name__
        if name == "is_pinned":
            return self._is_pinned(args[0])
        if name in ("_pin_memory", "pin_memory"):
            return self._pin(args[0].clone())
        leaves = [leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, Tensor)]
        there = [leaf for leaf in leaves if isinstance(leaf, DeviceTensor)]
        asked = None if kwargs.get("device") is None else torch.device(kwargs["device"])
        pin = kwargs.pop("pin_memory", False)
        if name in _COPIES and len(leaves):
            return self._copy(func, name, args, kwargs, asked)
        on_gpu = asked.type in ("cuda", "meta") if asked is not None else bool(there)
        if not on_gpu and not there:
            made = func(*args, **kwargs)
            return self._pin(made) if pin else made
        self._check_devices(func, name, leaves)
        self._note_waits(name, args, kwargs)
        if asked is not None:
            kwargs["device"] = "cpu"
        return self._compute(func, name, args, kwargs, count=True)

    def _compute(self, func: Any, name: str, args: Any, kwargs: Any, *, count: bool) -> Any:
        """`func` on the numbers themselves; what it returns is on the GPU."""
        known = {id(leaf.host): leaf for leaf in tree_leaves((args, kwargs)) if isinstance(leaf, DeviceTensor)}
        args, kwargs = tree_map_only(DeviceTensor, lambda leaf: leaf.host, (args, kwargs))
        result = func(*args, **kwargs)
        if count and not (func.is_view or name in _VIEWS or name in _ALLOCATIONS):
            self.launches[name] += 1
        # What is changed in place stays the tensor that it was.
        return tree_map_only(Tensor, lambda made: known[id(made)] if id(made) in known else DeviceTensor(made), result)

    def _copy(self, func: Any, name: str, args: Any, kwargs: Any, asked: torch.device | None) -> Any:
        target, source = (args[0], args[1]) if name == "copy_" else (None, args[0])
        goal = target.device if target is not None else (asked or source.device)
        here, there = source.device.type == "cuda", goal.type == "cuda"
        waits = not kwargs.get("non_blocking", False) and not (name == "copy_" and len(args) > 2 and args[2])
        if here and not there:
            self.waits["copy to the processor", place()] += 1
        elif there and not here and (waits or not self._is_pinned(source)):
            self.waits["copy to the device", place()] += 1
        if here or there:
            kwargs.pop("non_blocking", None)
        if target is not None:
            target_host = target.host if there else target
            target_host.copy_(source.host if here else source)
            self.launches["copy_"] += there
            return target
        if "device" in kwargs:
            kwargs["device"] = "cpu"
        made = func(source.host if here else source, *args[1:], **kwargs)
        made = made.clone() if made is source or (here and made is source.host) else made
        self.launches["_to_copy"] += here and there
        return DeviceTensor(made) if there else made

    def _check_devices(self, func: Any, name: str, leaves: list[Tensor]) -> None:
        # Numbers in tensors of the processor may enter pointwise kernels, as arguments; indices are copied.
        strangers = [leaf for leaf in leaves if not isinstance(leaf, DeviceTensor)]
        if name in _INDEXING and isinstance(leaves[0], DeviceTensor):
            if strangers:
                self.waits["copy of an index to the device", place()] += 1
            return
        pointwise = torch.Tag.pointwise in func.tags
        if any(leaf.ndim or not pointwise for leaf in strangers):
            shapes = [(leaf.device.type, list(leaf.shape)) for leaf in leaves]
            raise DeviceMismatch(f"{name} got tensors of two devices at {place()}: {shapes}")

    def _note_waits(self, name: str, args: Any, kwargs: Any) -> None:
        masks = name in _INDEXING and any(
            isinstance(index, Tensor) and index.dtype in (torch.bool, torch.uint8) for index in args[1]
        )
        repeats = name == "repeat_interleave" and kwargs.get("output_size") is None
        if name in _WAITING or masks or repeats:
            self.waits[f"value of {name}", place()] += 1

    def _pin(self, tensor: Tensor) -> Tensor:
        self._pinned.append(tensor)  # kept, so that no other tensor gets its memory
        return tensor

    def _is_pinned(self, tensor: Tensor) -> bool:
        pointer = tensor.untyped_storage().data_ptr()
        return any(pointer == each.untyped_storage().data_ptr() for each in self._pinned)


def place() -> str:
    """The innermost function of flowgression that is running, "file.py:function"; "elsewhere" if there is none."""
    frame = sys._getframe(1)
    while frame is not None:
        file = frame.f_code.co_filename
        if "/flowgression/" in file:
            return f"{file.rpartition('/flowgression/')[2]}:{frame.f_code.co_name}"
        frame = frame.f_back
    return "elsewhere"
