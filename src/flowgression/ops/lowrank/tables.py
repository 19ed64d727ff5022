"""Tables of constants, made once for each device: no transfer, and so no wait for the device, in later calls."""

from functools import lru_cache

import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor

from flowgression.ops.lowrank.features import derivatives, exponents, multinomials
from flowgression.ops.lowrank.minimax import minimax_exp
from flowgression.ops.modes import outside_of_modes


def weight_table(d: int, degree: int, bound: float, like: Tensor, dtype: torch.dtype) -> Tensor:
    """w_a = c_|a| |a|!/a!, [r, 1], in `dtype`, beside `like`."""
    if isinstance(like, FakeTensor):  # has a shape and a device that need not exist
        return like.new_empty(len(exponents(d, degree)), 1, dtype=dtype)
    return _weights(d, degree, bound, dtype, like.device)


def derivative_table(d: int, degree: int, like: Tensor) -> tuple[Tensor, Tensor]:
    """`derivatives` beside `like`: index [r', d] and, in the dtype of `like`, factor [r', d, 1]."""
    if isinstance(like, FakeTensor):
        index, _ = derivatives(d, degree)
        return like.new_empty(index.shape, dtype=index.dtype), like.new_empty(*index.shape, 1)
    return _derivatives(d, degree, like.dtype, like.device)


@lru_cache(maxsize=64)
def _weights(d: int, degree: int, bound: float, dtype: torch.dtype, device: torch.device) -> Tensor:
    coefficients = minimax_exp(degree, bound).coefficients
    with outside_of_modes():
        c = torch.tensor(coefficients, dtype=torch.float64)
        weights = c[exponents(d, degree).sum(1)] * multinomials(d, degree)
        return weights[:, None].to(dtype).to(device)


@lru_cache(maxsize=64)
def _derivatives(d: int, degree: int, dtype: torch.dtype, device: torch.device) -> tuple[Tensor, Tensor]:
    with outside_of_modes():
        index, factor = derivatives(d, degree)
        return index.to(device), factor[..., None].to(dtype).to(device)
