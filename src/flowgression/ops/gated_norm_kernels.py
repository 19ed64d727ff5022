"""RMS norm and gate in Triton: one pass over memory forward and one backward. d: width of a row.

tests/kernels runs these functions by Triton's interpreter.
"""

# Triton's compiler reads these functions, and knows less of Python than Python does.
# mypy: ignore-errors

import triton
import triton.language as tl


@triton.jit
def forward_kernel(x, gate, out, count, eps, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr):
    """x / sqrt(mean(x^2) + eps) silu(gate) of rows x, gate, out [count, d]."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    place = row[:, None] * D + column[None, :]
    inside = (row < count)[:, None] & (column < D)[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    factor = 1 / tl.sqrt(tl.sum(value * value, 1) / D + eps)
    result = value * factor[:, None] * g * tl.sigmoid(g)
    tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def backward_kernel(
    x, gate, grad, grad_x, grad_gate, count, eps, D: tl.constexpr, WIDTH: tl.constexpr, ROWS: tl.constexpr
):
    """Gradients of `forward_kernel` by x and gate, all [count, d]."""
    row = tl.program_id(0).to(tl.int64) * ROWS + tl.arange(0, ROWS)
    column = tl.arange(0, WIDTH)
    place = row[:, None] * D + column[None, :]
    inside = (row < count)[:, None] & (column < D)[None, :]
    value = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    g = tl.load(gate + place, mask=inside, other=0.0).to(tl.float32)
    by_out = tl.load(grad + place, mask=inside, other=0.0).to(tl.float32)
    factor = 1 / tl.sqrt(tl.sum(value * value, 1) / D + eps)
    normalised = value * factor[:, None]
    share = tl.sigmoid(g)
    by_gate = by_out * normalised * share * (1 + g * (1 - share))
    by_normalised = by_out * g * share
    along = tl.sum(by_normalised * normalised, 1) / D
    by_value = factor[:, None] * (by_normalised - normalised * along[:, None])
    tl.store(grad_x + place, by_value.to(grad_x.dtype.element_ty), mask=inside)
    tl.store(grad_gate + place, by_gate.to(grad_gate.dtype.element_ty), mask=inside)
