"""Which device a name such as auto or cuda:1 means, and which GPU each of several processes takes."""

import os
from typing import Any

from flowgression.errors import InputError, did_you_mean


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
        raise InputError(f"this machine has no device {name!r} that torch can use; auto takes the best that there is.")
    return torch.device(name)


def take_gpu(index: int) -> None:
    """Leave this process one of the machine's GPUs: number `index`, counted round. Without a GPU nothing changes.

    Whatever the process names cuda from then on is that GPU. To be called before CUDA is used in the process.
    """
    import torch

    number = torch.cuda.device_count()
    if number > 1:
        listed = os.environ.get("CUDA_VISIBLE_DEVICES") or ",".join(map(str, range(number)))
        os.environ["CUDA_VISIBLE_DEVICES"] = listed.split(",")[index % number].strip()
