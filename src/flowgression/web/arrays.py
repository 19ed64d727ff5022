"""Tensors in JSON: {"shape": [...], "data": base64 of little-endian float32}."""

import base64
import binascii
import math
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression.errors import InputError


def encode(value: Tensor) -> dict[str, Any]:
    """A tensor of any shape as JSON."""
    array = value.detach().to("cpu", torch.float32).contiguous().numpy().astype("<f4", copy=False)
    return {"shape": list(value.shape), "data": base64.b64encode(array.tobytes()).decode("ascii")}


def decode(value: Any, shape: tuple[int, ...], name: str) -> Tensor:
    """The float32 tensor of this shape.

    Raises:
        InputError: no such object, another number of values, or one that is not finite or far outside [-1, 1].
    """
    if not isinstance(value, dict) or not isinstance(value.get("data"), str):
        raise InputError(f'{name} must be {{"shape", "data"}}, base64 of float32')
    try:
        content = base64.b64decode(value["data"], validate=True)
    except (binascii.Error, ValueError) as error:
        raise InputError(f"{name}: the data are no base64") from error
    if len(content) != 4 * math.prod(shape):
        raise InputError(f"{name} must hold {math.prod(shape)} float32 numbers {list(shape)}, not {len(content)} bytes")
    array = torch.from_numpy(np.frombuffer(content, "<f4").astype(np.float32)).reshape(shape)
    if not bool((array.abs() <= 100).all()):
        raise InputError(f"{name} holds values that are no picture: they must lie between -100 and 100")
    return array
