"""Which device and precision a command works in."""

from typing import Any

from flowgression.errors import InputError, did_you_mean

DTYPES = ("float32", "bfloat16", "float16")


def pick_device(name: str) -> Any:
    """The torch.device called `name`; "auto" is the first there is of cuda, mps and cpu.

    Raises:
        InputError: an unknown device, or one this machine lacks.
    """
    import torch

    has_cuda, has_mps = torch.cuda.is_available(), torch.backends.mps.is_available()
    if name == "auto":
        return torch.device("cuda" if has_cuda else "mps" if has_mps else "cpu")
    kind, _, number = name.partition(":")
    present = {"cuda": has_cuda, "mps": has_mps, "cpu": True}
    if kind not in present or (number and not number.isdigit()):
        raise InputError(f"unknown device {name!r}: {did_you_mean(name, ['auto', *present])}")
    if not present[kind] or (kind == "cuda" and int(number or 0) >= torch.cuda.device_count()):
        raise InputError(f"this machine has no device {name!r} that torch can use; try --device auto.")
    return torch.device(name)


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
