"""The arrays of a model that gets compiled: checked, drawn at random, or of shapes alone."""

import zlib

import numpy as np

from flowgression.errors import InputError


def check_arrays(arrays: dict[str, np.ndarray], shapes: dict[str, tuple[int, ...]]) -> None:
    """Raise InputError unless there are no arrays at all, or all of these shapes."""
    for name, shape in shapes.items() if arrays else ():
        if name not in arrays or arrays[name].shape != shape:
            found = arrays[name].shape if name in arrays else "missing"
            raise InputError(f"array {name} is {found}, expected {shape}.")


def with_biases(linears: dict[str, tuple[int, int]]) -> dict[str, tuple[int, ...]]:
    """The arrays of linear layers of these shapes [out, in]."""
    shapes: dict[str, tuple[int, ...]] = {}
    for name, (out, inner) in linears.items():
        shapes |= {f"{name}.w": (out, inner), f"{name}.b": (out,)}
    return shapes


def random_arrays(seed: int, shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """Weights for all names: normal by fan-in, norms about 1, true rotations, resampling by means, tau in (0, 2)."""
    arrays = {}
    for name, shape in shapes.items():
        generator = np.random.default_rng([seed, zlib.crc32(name.encode())])
        fan_in = shape[-1] if name.endswith(".w") else 1
        spread = 1.0 / np.sqrt(fan_in) if name.endswith(".w") else 0.3
        arrays[name] = spread * generator.standard_normal(shape)
        if name.endswith("norm"):
            arrays[name] += 1.0
        elif name.endswith("rotation"):
            arrays[name] = rotations(generator.uniform(0, 2 * np.pi, shape[:2]))
        elif name.startswith("resample"):
            arrays[name] = np.abs(arrays[name]) / np.abs(arrays[name]).sum(-1, keepdims=True)
        elif name.endswith("tau"):
            arrays[name] = generator.uniform(0.5, 2.0, shape)
    return arrays


def typical_arrays(shapes: dict[str, tuple[int, ...]]) -> dict[str, np.ndarray]:
    """One value per array, in no memory."""
    return {
        name: np.broadcast_to(np.float64(4 / np.sqrt(shape[-1]) if name.endswith(".w") else 1.0), shape)
        for name, shape in shapes.items()
    }


def rotations(angles: np.ndarray) -> np.ndarray:
    """Angles [L, P] -> rotation matrices [L, P, 2, 2] of pairs (even, odd)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)
