"""Formats from measured ranges: how large each value of a program gets, by running it on real numbers."""

from collections.abc import Mapping

import numpy as np

from flowgression.circuits.compile import Program
from flowgression.circuits.lower.precision import Precision
from flowgression.circuits.lower.reals import RealOps

SAMPLES = 64
MARGIN = 1.25
"""Room above the largest magnitude measured; a power of two follows, so the room is 1.25 to 2.5 times."""


def run_real(program: Program, inputs: Mapping[str, np.ndarray]) -> tuple[dict[str, np.ndarray], dict[str, float]]:
    """The program without rounding on real inputs [samples, ...]: its outputs, and the largest magnitude of each
    named value.
    """
    ops = RealOps()
    outputs, fractions = program.run(ops, {name: np.asarray(inputs[name]) for name in program.inputs})
    return {name: np.ldexp(data, -fractions[name]) for name, data in outputs.items()}, ops.ranges


def normal_inputs(program: Program, samples: int, seed: int = 0) -> dict[str, np.ndarray]:
    """Standard normal numbers and uniform labels for every input of the program."""
    generator = np.random.default_rng(seed)
    values: dict[str, np.ndarray] = {}
    for name, item in program.inputs.items():
        shape = (samples, *item.shape)
        values[name] = (
            generator.standard_normal(shape) if item.limit is None else generator.integers(item.limit, size=shape)
        )
    return values


def measured_precision(program: Program, bits: int, samples: int = SAMPLES, seed: int = 0) -> Precision:
    """p-bit numbers whose formats follow from the program's own ranges on normal inputs, with a margin."""
    _, ranges = run_real(program, normal_inputs(program, samples, seed))
    return Precision(bits, ranges={name: MARGIN * value for name, value in ranges.items()})
