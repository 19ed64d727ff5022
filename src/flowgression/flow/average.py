"""Average velocities (MeanFlow, arXiv 2505.13447, and 2512.02012): one call goes from any time to any later one.

    u(x_t, t, r) = 1 / (r - t) times the integral of v(x_s, s) over s from t to r        x_r = x_t + (r - t) u

Differentiated by t along the path, with r fixed, this is u = v + (r - t) du/dt, du/dt = v du/dx + du/dt: the right side
is what u is trained on. t = 0 is noise here, and the papers' is 1, which turns the sign of the second term.

Letters: x [B, ...] samples, t and r [B] times with t <= r, v velocities like x.
"""

import itertools
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._pytree import TreeSpec, tree_flatten, tree_unflatten

AverageVelocity = Callable[[Tensor, Tensor], tuple[Tensor, Any]]
"""(x, t) -> (u over t to some fixed r, whatever else the call gives)."""


class Averaged(NamedTuple):
    """u and du/dt along the path, like x, and what else the call gave; du/dt has no gradient."""

    average: Tensor
    derivative: Tensor
    state: Any


def along_path(average: AverageVelocity, x: Tensor, t: Tensor, v: Tensor) -> Averaged:
    """u at x and t with its derivative along dx/dt = v, by one Jacobian-vector product in forward mode.

    Attention is computed by PyTorch's plain kernel, as the fused ones have no forward mode.
    """
    shape: TreeSpec | None = None

    def with_tensors(x: Tensor, t: Tensor) -> tuple[Tensor, list[Tensor]]:
        """jvp hands on nothing but tensors."""
        nonlocal shape
        u, state = average(x, t)
        leaves, shape = tree_flatten(state)
        return u, [leaf for leaf in leaves if leaf is not None]

    with sdpa_kernel(SDPBackend.MATH):
        jvp: Any = torch.func.jvp  # declared without what has_aux adds
        primals = (x.contiguous(), t.contiguous())  # expanded tensors cannot be given a tangent
        u, derivative, tensors = jvp(with_tensors, primals, (v.contiguous(), torch.ones_like(primals[1])), has_aux=True)
    assert shape is not None
    left = iter(tensors) if shape.num_leaves == len(tensors) else itertools.repeat(None)
    return Averaged(u, derivative.detach(), tree_unflatten([next(left) for _ in range(shape.num_leaves)], shape))


def average_target(v: Tensor, derivative: Tensor, t: Tensor, r: Tensor) -> Tensor:
    """v + (r - t) du/dt, without a gradient; t and r may have further leading dimensions of v."""
    return (v + (r - t).reshape(*t.shape, *[1] * (v.ndim - t.ndim)) * derivative).detach()


def adaptive_loss(error: Tensor, floor: float = 1e-2) -> Tensor:
    """Errors [B], each divided by itself and a floor (2505.13447, section 4.3 with p = 1): those that are large, as of
    long intervals, do not drown the others. 0-dim.
    """
    return (error / (error.detach() + floor)).mean()
