"""FLOPs: how they are counted everywhere in this package, by planner, cost reports and complexity measurements alike.

A FLOP is a floating-point operation of a matrix product, a convolution or an attention; a multiply-add is two FLOPs.

- Elementwise work (norms, activations, exp, rotary positions, decays, the optimiser) is not counted.
- Products with masked entries are counted whole.
- Attention costs the same whichever kernel computes it: forward 2 products, backward 4. What a fused kernel computes
  again in its backward pass is not counted; what activation checkpointing computes again is.

The figures follow from shapes alone, so fake and meta tensors give them too.
"""

from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

VERSION = 3
"""Rises when the same training or sampling gives another figure, because it is counted or computed in another way.

Stored with every figure that is kept in a file. 3: what a network makes of time and class is made once for all images.
"""

Shape = Sequence[int]


def flop_counter() -> FlopCounterMode:
    """A context manager; `get_total_flops()` gives the FLOPs of what ran inside it.

    It is PyTorch's counter with formulas for the operators that PyTorch leaves out (products in place, matrix times
    vector, the attention kernels of processors) or counts by kernel (the backward pass of attention). An operator of
    another library needs `torch.utils.flop_counter.register_flop_formula`, or it counts as none.
    """
    counter = FlopCounterMode(display=False, custom_mapping=FORMULAS)
    counter.mod_tracker = _NoModules()  # type: ignore[assignment]
    return counter


class _NoModules:
    """In place of what attributes FLOPs to modules: its hooks keep the activations of checkpointed blocks alive."""

    parents = ("Global",)

    def __enter__(self) -> None:
        pass

    def __exit__(self, *exception: object) -> None:
        pass


def count_flops(compute: Callable[[], Any]) -> int:
    """Run `compute` once and count its FLOPs."""
    with flop_counter() as counter:
        compute()
    return counter.get_total_flops()


def attention_flops(query: Shape, key: Shape, value: Shape) -> int:
    """q [..., M, d], k [..., N, d], v [..., N, e]: 2 M N (d + e) for each of q's heads."""
    *heads, queries, width = query
    return 2 * _product(heads) * queries * key[-2] * (width + value[-1])


def _product(numbers: Shape) -> int:
    result = 1
    for number in numbers:
        result *= number
    return result


def _attention(query: Shape, key: Shape, value: Shape, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return attention_flops(query, key, value)


def _attention_backward(
    grad_out: Shape, query: Shape, key: Shape, value: Shape, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return 2 * attention_flops(query, key, value)


def _product_of(*factors: Shape) -> int:
    """[..., m, k] times [..., k, n] or [k]: 2 m k n for each leading index. A dot product is [k] times [k]."""
    left, right = factors
    return 2 * _product(left) * (right[-1] if len(right) > 1 else 1)


def _multiplied(left: Shape, right: Shape, *args: Any, out_shape: Any = None, **kwargs: Any) -> int:
    return _product_of(left, right)


def _multiplied_and_added(
    start: Shape, left: Shape, right: Shape, *args: Any, out_shape: Any = None, **kwargs: Any
) -> int:
    return _product_of(left, right)


_aten = torch.ops.aten
FORMULAS: dict[Any, Callable[..., int]] = {
    **dict.fromkeys((_aten.mv, _aten.dot, _aten.vdot), _multiplied),
    **dict.fromkeys(
        (
            _aten.addmm_,
            _aten.baddbmm_,
            _aten.addbmm,
            _aten.addbmm_,
            _aten.addmv,
            _aten.addmv_,
            _aten._addmm_activation,
        ),
        _multiplied_and_added,
    ),
    **dict.fromkeys(
        (
            _aten._scaled_dot_product_flash_attention_for_cpu,
            _aten._scaled_dot_product_fused_attention_overrideable,
        ),
        _attention,
    ),
    **dict.fromkeys(
        (
            _aten._scaled_dot_product_flash_attention_for_cpu_backward,
            _aten._scaled_dot_product_fused_attention_overrideable_backward,
            _aten._scaled_dot_product_flash_attention_backward,
            _aten._scaled_dot_product_efficient_attention_backward,
            _aten._scaled_dot_product_cudnn_attention_backward,
        ),
        _attention_backward,
    ),
}
"""Operator -> FLOPs, given the shapes of its arguments."""
