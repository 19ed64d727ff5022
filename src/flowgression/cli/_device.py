"""Which precision a command works in."""

from typing import Any

from flowgression.errors import InputError, did_you_mean

DTYPES = ("float32", "bfloat16", "float16")


def pick_dtype(name: str) -> Any:
    """The torch.dtype called `name`, one of `DTYPES`; InputError for any other."""
    import torch

    if name not in DTYPES:
        raise InputError(f"unknown dtype {name!r}: {did_you_mean(name, DTYPES)}")
    return getattr(torch, name)


def set_tf32(device: Any, wanted: bool) -> None:
    """Let float32 matrix products on CUDA use TensorFloat32 (torch.set_float32_matmul_precision), or not."""
    import torch

    if device.type == "cuda":
        torch.set_float32_matmul_precision("high" if wanted else "highest")
