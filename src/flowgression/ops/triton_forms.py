"""When a form written in Triton can be used and is taken by itself, which is not imported before it is needed."""

import os
from functools import lru_cache

import torch
from torch import Tensor
from torch.autograd import forward_ad
from torch.utils._python_dispatch import _get_current_dispatch_mode_stack

LOWEST = (3, 3)  # the first whose functions take and return tuples


@lru_cache(maxsize=1)
def version() -> tuple[int, ...] | None:
    """(major, minor) of Triton, None where it cannot be imported."""
    try:
        import triton
    except ImportError:
        return None
    return tuple(int(part) for part in triton.__version__.split(".")[:2])


def interpreted() -> bool:
    """Whether Triton's interpreter runs kernels, on the CPU and slowly: for tests. Set before Triton is imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def on_gpu(x: Tensor) -> bool:
    """Whether a tensor lies where Triton compiles for."""
    return x.device.type == "cuda"


def refuses(*tensors: Tensor, dtypes: tuple[torch.dtype, ...] = (torch.float32,)) -> str | None:
    """Why no Triton kernel can take these tensors; None if one can."""
    device = tensors[0].device
    if interpreted():
        if device.type != "cpu":
            return f"TRITON_INTERPRET=1 runs kernels on the CPU, and the tensors are on {device}"
    elif device.type != "cuda" or torch.version.cuda is None:
        return f"it needs an NVIDIA GPU, and the tensors are on {device} of torch {torch.__version__}"
    if (found := version()) is None or found < LOWEST:
        here = "is not installed" if found is None else f"is {'.'.join(map(str, found))}"
        return (
            f"Triton {here}, and at least {'.'.join(map(str, LOWEST))} is needed (pip install 'flowgression[kernels]')"
        )
    if any(x.dtype not in dtypes for x in tensors):
        return f"it takes {' or '.join(map(str, dtypes))}, got {', '.join(str(x.dtype) for x in tensors)}"
    if any(type(x) not in (Tensor, torch.nn.Parameter) for x in tensors) or _get_current_dispatch_mode_stack():
        # Such a tensor has no memory of its own, and who counts or records operations sees those of torch alone.
        return "operations are counted, recorded or simulated"
    if forward_ad._current_level >= 0:  # type: ignore[attr-defined]
        return "it has no derivative in forward mode"
    return None
