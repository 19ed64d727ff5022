"""A model's weights as plain float64 arrays, for what sees no torch."""

from typing import Any

import numpy as np
import torch
from torch import Tensor


def as_array(tensor: Tensor) -> np.ndarray:
    """A tensor as float64, of the same shape."""
    return tensor.detach().cpu().double().numpy()


def linear_arrays(module: Any, name: str) -> dict[str, np.ndarray]:
    """A linear layer as NAME.w [out, in] and NAME.b [out], zeros where it has no bias."""
    bias = torch.zeros(module.out_features) if module.bias is None else module.bias
    return {f"{name}.w": as_array(module.weight), f"{name}.b": as_array(bias)}
