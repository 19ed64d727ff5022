"""What of torch has to be told that there is a CUDA device, for as long as a simulated one is used."""

import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, nullcontext
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

import torch
import torch._dynamo  # before anything is patched: it notes the functions of torch.cuda
from torch.nn.functional import scaled_dot_product_attention

from flowgression.ops import modes


class DeviceMismatch(RuntimeError):
    """An operation got tensors of two devices."""


PROPERTIES = SimpleNamespace(name="simulated", total_memory=80 * 2**30, major=9, minor=0, multi_processor_count=132)


class SimulatedGenerator(torch.Generator):
    """A generator that says it lives on the GPU; its numbers are the processor's."""

    def __new__(cls, device: torch.device | str = "cpu") -> "torch.Generator":
        made = super().__new__(cls)
        made.told = torch.device(device)
        return made

    def __init__(self, device: torch.device | str = "cpu") -> None:
        super().__init__()

    @property
    def device(self) -> torch.device:  # type: ignore[override]
        return self.told


def attention(query: Any, key: Any, value: Any, attn_mask: Any = None, dropout_p: float = 0.0, *rest: Any, **kw: Any):
    """One kernel forward and one backward, as on CUDA; the choice of torch on a processor would be by its device."""
    if query.device.type != "cuda":
        return scaled_dot_product_attention(query, key, value, attn_mask, dropout_p, *rest, **kw)
    if torch.is_autocast_enabled("cuda"):
        query, key, value = (each.to(torch.get_autocast_dtype("cuda")) for each in (query, key, value))
    if key.device != query.device or value.device != query.device:
        raise DeviceMismatch(f"attention got tensors of two devices: {[x.device for x in (query, key, value)]}")
    kernel = torch.ops.aten._scaled_dot_product_flash_attention_for_cpu
    return kernel(query, key, value, dropout_p, attn_mask=attn_mask, **kw)[0]


autocast_on: list[bool] = []  # whether autocast of CUDA is on, for each context of autocast that is open


def _enter_autocast(self: torch.autocast, *, plain: Any = torch.autocast.__enter__) -> Any:
    autocast_on.append(self._enabled if self.device == "cuda" else bool(autocast_on) and autocast_on[-1])
    return plain(self)


def _exit_autocast(self: torch.autocast, *exception: Any, plain: Any = torch.autocast.__exit__) -> Any:
    autocast_on.pop()
    return plain(self, *exception)


def indexed(device: Any) -> Any:
    """ "cuda" as "cuda:0": which one is meant, torch would ask the driver."""
    plain = isinstance(device, str | torch.device) and str(device) == "cuda"
    return torch.device("cuda:0") if plain else device


@contextmanager
def cuda_patches(gpu: Any) -> Iterator[None]:
    """torch.cuda of one device; a call that waits is written down in `gpu.waits`."""
    from tests.simulated_gpu.device import DeviceTensor, place

    def synchronize(device: Any = None) -> None:
        gpu.waits["torch.cuda.synchronize", place()] += 1

    plain_to = torch.Tensor.to

    def to(self: torch.Tensor, *args: Any, **kwargs: Any) -> torch.Tensor:
        return plain_to(self, *map(indexed, args), **{name: indexed(value) for name, value in kwargs.items()})

    nothing = lambda *_, **__: None  # noqa: E731
    functions: dict[str, Any] = {
        "is_available": lambda: True,
        "device_count": lambda: 1,
        "current_device": lambda: 0,
        "is_bf16_supported": lambda *_, **__: True,
        "get_device_properties": lambda *_: PROPERTIES,
        "get_device_name": lambda *_: PROPERTIES.name,
        "get_device_capability": lambda *_: (9, 0),
        "mem_get_info": lambda *_: (PROPERTIES.total_memory, PROPERTIES.total_memory),
        "synchronize": synchronize,
        **dict.fromkeys(("_lazy_init", "set_device", "empty_cache", "manual_seed", "manual_seed_all"), nothing),
        "is_initialized": lambda: True,
    }
    with ExitStack() as stack:
        for name, function in functions.items():
            stack.enter_context(patch.object(torch.cuda, name, function))
        stack.enter_context(patch.object(torch.autocast, "__enter__", _enter_autocast))
        stack.enter_context(patch.object(torch.autocast, "__exit__", _exit_autocast))
        if hasattr(torch, "accelerator"):
            # The DataLoader asks whether to page-lock batches, the optimiser whether a graph is being captured.
            stream = SimpleNamespace(is_capturing=lambda: False)
            answers = {"is_available": True, "current_accelerator": torch.device("cuda"), "current_stream": stream}
            for name, answer in answers.items():
                stack.enter_context(patch.object(torch.accelerator, name, lambda *_, _is=answer, **__: _is))
        types = [*torch.utils._foreach_utils._foreach_supported_types, DeviceTensor]
        stack.enter_context(patch.object(torch.utils._foreach_utils, "_foreach_supported_types", types))
        stack.enter_context(patch.object(torch, "Generator", SimulatedGenerator))
        for module in [torch.nn.functional, *(each for name, each in sys.modules.items() if "flowgression." in name)]:
            if getattr(module, "scaled_dot_product_attention", None) is scaled_dot_product_attention:
                stack.enter_context(patch.object(module, "scaled_dot_product_attention", attention))
        stack.enter_context(patch.object(torch.Tensor, "to", to))
        # torch.tensor(..., device=GPU) then makes a tensor of the processor and copies it, as it does on CUDA.
        stack.callback(torch._C._set_only_lift_cpu_tensors, torch._C._only_lift_cpu_tensors())
        torch._C._set_only_lift_cpu_tensors(True)
        # Tables of modes are made outside of all modes; this device is none of the modes they mean.
        stack.enter_context(patch.object(modes, "_disable_current_modes", nullcontext))
        # Parameters become new ones that are moved, where torch would move the data of the old.
        stack.callback(torch.__future__.set_overwrite_module_params_on_conversion, False)
        torch.__future__.set_overwrite_module_params_on_conversion(True)
        yield
