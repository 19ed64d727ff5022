"""A program with every operation, and what attacks on its proof need: legal inputs of a cell, and its results."""

from typing import Any

import numpy as np

from flowgression.circuits.arithmetic.functions import function
from flowgression.circuits.compile import Input, Program
from flowgression.circuits.lower.ops import Ops
from flowgression.circuits.proof.cell import Cell, leaves_of
from flowgression.circuits.proof.meaning import ONE_HOT_ARGUMENT
from flowgression.circuits.proof.netlist import Net, Number


def every_operation() -> Program:
    """Each operation at least once, on four numbers and a label."""

    def body(ops: Ops, given: dict[str, Any]) -> dict[str, Any]:
        x, p = given["x"].data, ops.precision
        root = function("rsqrt", 1 << p.bits, (4 << p.bits) - 1, p.bits, p.bits)
        reciprocal = function("reciprocal", 1 << p.bits, (2 << p.bits) - 1, p.bits, p.bits)
        total, squares = ops.total(x), ops.square_sum(x)
        factor, power = ops.inverse(squares, root, p.bits, root=2)
        share, shift = ops.inverse(ops.at_least_one(total), reciprocal, p.bits, root=1)
        weights = ops.constant(np.array([[3, -5, 7, 1], [2, 2, -8, 0]]))
        return {
            "product": ops.matmul(x[..., :2], x[..., 2:], bias=x[..., 0, :1], bias_shift=1, shift=p.f),
            "linear": ops.matmul(x, weights, shift=2),
            "fused": ops.fused(x[..., 0], x[..., 1], x[..., 2]),
            "mixed": ops.mix((3, -2), x[..., 0], x[..., 1], shift=1),
            "centred": ops.centred_square_sum(x, total),
            "ceiling": ops.ceiling(x, 2),
            "silu": ops.apply(x, function("silu", p.low, p.high, p.f, p.f)),
            "norm": ops.rescale(x, factor[..., None], power[..., None], p.bits - p.f),
            "share": ops.rescale(x, share[..., None], shift[..., None], p.bits),
            "entry": ops.lookup(given["label"], np.array([[5, -3], [0, 7], [7, 2], [-8, 1], [4, 4]])),
        }

    return Program("every operation", {"x": Input((1, 4)), "label": Input((), 5)}, body)


def legal_inputs(cell: Cell, generator: np.random.Generator, samples: int = 20_000) -> dict[int, np.ndarray]:
    """Values of a cell's input nodes for which it was proved: all of them up to 16 bits, else random ones, ends of
    intervals included.
    """
    size = cell.net.num_inputs
    if size <= 16:
        codes = np.arange(1 << size)
        known = {n: (codes >> n & 1).astype(bool) for n in range(size)}
    else:
        known = _sampled(cell, generator, samples)
    keep = np.ones(len(next(iter(known.values()))), dtype=bool) if known else np.ones(1, dtype=bool)
    for x in leaves_of(cell.arguments):
        if isinstance(x, Number):
            keep &= (_decoded(x, known) >= x.lo) & (_decoded(x, known) <= x.hi)
            for bit in x.bits:
                keep &= np.isin(_affine(bit, known), (0, 1))
    place = ONE_HOT_ARGUMENT.get(cell.operation)
    if place is not None and isinstance(cell.arguments[place], Number):
        keep &= sum(_affine(bit, known) for bit in cell.arguments[place].bits) == 1
    if cell.operation == "centred_square_sum":
        xs, total = cell.arguments
        keep &= sum(_decoded(x, known) for x in xs) == _decoded(total, known)
    return {n: value[keep] for n, value in known.items()}


def _sampled(cell: Cell, generator: np.random.Generator, samples: int) -> dict[int, np.ndarray]:
    known: dict[int, np.ndarray] = {}
    place = ONE_HOT_ARGUMENT.get(cell.operation)
    for k, argument in enumerate(cell.arguments):
        if k == place and isinstance(argument, Number):
            nodes = [n for bit in argument.bits for n in bit.nodes]
            chosen = generator.integers(0, len(nodes), samples)
            known |= {n: chosen == i for i, n in enumerate(nodes)}
            continue
        for x in argument if isinstance(argument, list) else [argument]:
            if not isinstance(x, Number):
                continue
            values = generator.integers(x.lo, x.hi + 1, samples)
            small = np.clip(generator.integers(-3, 4, samples), x.lo, x.hi)
            ends = generator.choice([x.lo, x.hi], samples)
            values = np.choose(generator.integers(0, 4, samples), [values, values, small, ends])
            if cell.operation == "centred_square_sum" and k == 1:
                values = sum(_decoded(each, known) for each in cell.arguments[0])
            for j, bit in enumerate(x.bits):
                for n in bit.nodes:
                    known[n] = (values >> j & 1).astype(bool) ^ bool(bit.const)
    return known


def _affine(bit: Any, known: dict[int, np.ndarray]) -> Any:
    return bit.const + sum(w * known[n].astype(np.int64) for n, w in zip(bit.nodes, bit.weights, strict=True))


def _decoded(x: Any, known: dict[int, np.ndarray]) -> Any:
    if isinstance(x, int):
        return x
    return sum(w * _affine(bit, known) for w, bit in zip(x.weights, x.bits, strict=True))


def results(cell: Cell, net: Net, known: dict[int, np.ndarray]) -> list[np.ndarray]:
    """Every result bit of the cell with these gates, on these inputs."""
    known = dict(known)
    bits = [bit for x in cell.results if isinstance(x, Number) for bit in x.bits]
    net.extend(known, {n for bit in bits for n in bit.nodes})
    return [np.asarray(_affine(bit, known)) for bit in bits]
