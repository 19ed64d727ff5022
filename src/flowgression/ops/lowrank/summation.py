"""Long sums whose rounding error does not grow with their length: blocks in float32, the blocks in twice the precision.

A sum of n products loses up to n u of the sum of their absolute values (u = 2^-24 in float32), and identical terms do
lose in proportion to n. Here a matrix product runs over BLOCK terms at most, so it loses at most BLOCK u in any order
of summation, and its results are added in a format in which N additions lose nothing that counts: float64, or a pair
of float32 numbers where a device has no float64. docs/theory-reference.md, lemmas 1 to 3, says how much at most.
"""

import itertools
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any

import torch
from torch import Tensor

BLOCK = 64  # products added in float32; tests/ops/lowrank/test_error_bounds.py holds for any


class WideSum:
    """Running sums of float32 (or float64) tensors, [shape] of them, kept with twice the precision of float32.

    float64 where the device has it. Else high + low, two float32 tensors: the error of each addition is caught by
    Knuth's TwoSum and added to low ("DWPlusFP" of Joldes, Muller and Popescu 2017, relative error 2 u^2).
    """

    def __init__(self, shape: tuple[int, ...], device: torch.device, *, paired: bool | None = None):
        paired = device.type == "mps" if paired is None else paired
        self.high = torch.zeros(shape, device=device, dtype=torch.float32 if paired else torch.float64)
        self.low = torch.zeros_like(self.high) if paired else None

    def add(self, place: Any, parts: Tensor) -> None:
        """Add every one of `parts` [count, ...] to the sums at the index `place` [...]."""
        if self.low is None:
            self.high[place] += parts.sum(0, dtype=torch.float64) if len(parts) > 1 else parts[0]
            return
        high, low = self.high[place], self.low[place]
        for part in parts:
            total, error = _two_sum(high, part)
            error = error + low
            high = total + error
            low = error - (high - total)
        self.high[place], self.low[place] = high, low

    def accumulate(self) -> None:
        """Replace entry l of the first dimension by the sum of the entries 0..l."""
        for before, after in itertools.pairwise(range(len(self.high))):
            self.add(after, self.high[before : before + 1])
            if self.low is not None:
                self.add(after, self.low[before : before + 1])

    def value(self) -> Tensor:
        """The sums: float64, or float32 where the device has no float64."""
        return self.high  # low is below half a unit in the last place of high


def _two_sum(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """fl(a + b) and its error, exactly, for any a and b."""
    total = a + b
    of_b = total - a
    return total, (a - (total - of_b)) + (b - of_b)


def with_ones(v: Tensor) -> Tensor:
    """[V, 1]: the column of ones sums the weights."""
    return torch.cat([v, torch.ones_like(v[..., :1])], -1)


def wide_matmul(a: Tensor, b: Tensor) -> Tensor:
    """a @ b for a [..., m, n] and b [..., n, f], summed in blocks; differentiable. Several blocks are added in float64
    where the device has it, and it is what comes back.
    """
    return _total([x @ y for x, y in zip(a.split(BLOCK, -1), b.split(BLOCK, -2), strict=True)])


def wide_sum(x: Tensor) -> Tensor:
    """The rows of x [..., n, f] summed as `wide_matmul` sums, [..., 1, f]."""
    return _total([part.sum(-2, keepdim=True) for part in x.split(BLOCK, -2)])


def _total(blocks: list[Tensor]) -> Tensor:
    total = blocks[0]
    if len(blocks) > 1 and total.device.type != "mps":
        total = total.double()
    for block in blocks[1:]:
        total = total + block
    return total


def full_precision(device: torch.device) -> AbstractContextManager[Any]:
    """Matrix products of float32 numbers in float32 (IEEE 754): no autocast, no TF32, no bfloat16, whatever is set.

    Under torch.compile only autocast is turned off: a graph takes the setting that it runs under, see
    `reduced_precision`.
    """
    autocast = torch.autocast(device.type, enabled=False)
    return autocast if torch.compiler.is_compiling() else _full_precision(autocast)


@contextmanager
def _full_precision(autocast: AbstractContextManager[Any]) -> Iterator[None]:
    if not hasattr(torch.backends.cuda.matmul, "fp32_precision"):  # torch < 2.9
        precision = torch.get_float32_matmul_precision()
        torch.set_float32_matmul_precision("highest")
        try:
            with autocast:
                yield
        finally:
            torch.set_float32_matmul_precision(precision)
        return
    backends: list[Any] = [torch.backends.cuda.matmul, getattr(torch.backends.mkldnn, "matmul")]  # noqa: B009
    before = [backend.fp32_precision for backend in backends]
    for backend in backends:
        backend.fp32_precision = "ieee"
    try:
        with autocast:
            yield
    finally:
        for backend, precision in zip(backends, before, strict=True):
            backend.fp32_precision = precision


@torch.compiler.assume_constant_result
def reduced_precision() -> bool:
    """Whether matrix products of float32 numbers may be taken in a shorter format; torch.compile asks it once and
    compiles again when the setting changes.
    """
    return torch.get_float32_matmul_precision() != "highest"
