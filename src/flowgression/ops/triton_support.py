"""When a backend written in Triton can be used and is taken by itself, which is not imported before it is needed."""

import os
from functools import lru_cache

import torch
from torch import Tensor

from flowgression.ops.backends import needs_torch

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
    return needs_torch(*tensors)
