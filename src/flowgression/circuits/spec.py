"""The neutral description of a FlowAR model that gets compiled: sizes and real arrays, no framework.

Letters: K scales with sides s_k, L = sum s_k^2 tokens, C channels of a token, D width, M = int(8 D / 3) hidden width
of the MLP, d width of a head, W width of the flow head, V classes (the null class included), N Euler steps.

Arrays (float64; `.w` is [out, in], `.b` is [out]):
class_embed [V, D]; input.w, input.b, input_norm [D]; encoder_position, decoder_position, semantics_position [L, D];
encoder_norm, decoder_norm [D]; decoder_proj.w/.b; rotation [L, d/2, 2, 2], flow_rotation [L, d'/2, 2, 2]; per block
("block0", ..., "flow0", ...) qkv.w/.b, proj.w/.b, gate.w/.b, value.w/.b, out.w/.b and either modulation [V, 6 D]
(transformer: one per class) or modulation.w/.b (flow head: from the condition); condition.w/.b [W, D]; time [N, W];
flow_input.w/.b, final.w/.b (2 W), output.w/.b; resample1, ..., resample(K-1) [s_{k+1}^2, s_k^2].
Modulations stand in the order gamma1, gamma2, scale1, scale2, shift1, shift2.
"""

import zlib
from dataclasses import dataclass, field

import numpy as np

from flowgression.errors import InputError


@dataclass(frozen=True)
class FlowARSpec:
    """Sizes of a FlowAR model with Spatial-adaLN flow blocks, and its arrays (empty for shapes alone).

    times: falling, from 1 (noise) to 0 (data): one Euler step between neighbours, the same at every scale.
    Raises InputError for sizes that do not fit each other.
    """

    scales: tuple[int, ...] = (2, 4)
    channels: int = 1
    width: int = 4
    num_heads: int = 1
    encoder_depth: int = 1
    decoder_depth: int = 1
    flow_width: int = 4
    flow_num_heads: int = 1
    flow_depth: int = 1
    num_classes: int = 4
    times: tuple[float, ...] = (1.0, 0.0)
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)

    def __post_init__(self) -> None:
        if (
            not self.scales
            or self.scales[0] < 1
            or any(b <= a for a, b in zip(self.scales, self.scales[1:], strict=False))
        ):
            raise InputError(f"scales are {self.scales}, expected growing sides such as (2, 4).")
        for width, heads in ((self.width, self.num_heads), (self.flow_width, self.flow_num_heads)):
            if width < 2 or heads < 1 or width % heads or width // heads % 2:
                raise InputError(f"width {width} does not split into {heads} heads of even width.")
        if len(self.times) < 2 or self.times[0] != 1 or self.times[-1] != 0:
            raise InputError(f"times are {self.times}, expected a falling grid from 1 to 0.")
        for name, shape in self.shapes().items() if self.arrays else ():
            if name not in self.arrays or self.arrays[name].shape != shape:
                found = self.arrays[name].shape if name in self.arrays else "missing"
                raise InputError(f"array {name} is {found}, expected {shape}.")

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(side * side for side in self.scales)

    @property
    def depth(self) -> int:
        """Blocks of the autoregressive transformer."""
        return self.encoder_depth + self.decoder_depth

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array."""
        D, W, C, L, V = self.width, self.flow_width, self.channels, sum(self.tokens), self.num_classes
        shapes: dict[str, tuple[int, ...]] = {"class_embed": (V, D), "time": (len(self.times) - 1, W)}
        shapes |= dict.fromkeys(("input_norm", "encoder_norm", "decoder_norm"), (D,))
        shapes |= {f"{name}_position": (L, D) for name in ("encoder", "decoder", "semantics")}
        shapes["rotation"] = (L, D // self.num_heads // 2, 2, 2)
        shapes["flow_rotation"] = (L, W // self.flow_num_heads // 2, 2, 2)
        for k, (coarse, fine) in enumerate(zip(self.tokens, self.tokens[1:], strict=False)):
            shapes[f"resample{k + 1}"] = (fine, coarse)
        linears = {"input": (D, C), "decoder_proj": (D, D), "condition": (W, D), "flow_input": (W, C)}
        linears |= {"final": (2 * W, W), "output": (C, W)}
        for i in range(self.depth):
            linears |= _block(f"block{i}", D)
            shapes[f"block{i}.modulation"] = (V, 6 * D)
        for i in range(self.flow_depth):
            linears |= _block(f"flow{i}", W) | {f"flow{i}.modulation": (6 * W, W)}
        for name, (out, inner) in linears.items():
            shapes |= {f"{name}.w": (out, inner), f"{name}.b": (out,)}
        return shapes

    @property
    def num_parameters(self) -> int:
        return sum(int(np.prod(shape)) for shape in self.shapes().values())


def mlp_width(width: int) -> int:
    """Hidden width of the gated MLP."""
    return int(4 * width * 2 / 3)


def _block(name: str, width: int) -> dict[str, tuple[int, int]]:
    hidden = mlp_width(width)
    parts = {"qkv": (3 * width, width), "proj": (width, width), "gate": (hidden, width), "value": (hidden, width)}
    return {f"{name}.{part}": shape for part, shape in (parts | {"out": (width, hidden)}).items()}


def random_spec(seed: int = 0, **sizes: object) -> FlowARSpec:
    """A model with random weights of sensible size and true rotations, for tests and scaling studies.

    Each array depends on the seed and its name alone, so models that differ in their scales share their layers.
    """
    bare = FlowARSpec(**sizes)  # type: ignore[arg-type]
    arrays = {}
    for name, shape in bare.shapes().items():
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
    return FlowARSpec(**{**sizes, "arrays": arrays})  # type: ignore[arg-type]


def shapes_only(**sizes: object) -> FlowARSpec:
    """A model whose arrays hold one typical value each, in no memory: enough to count a circuit with weights as
    inputs.
    """
    bare = FlowARSpec(**sizes)  # type: ignore[arg-type]
    arrays = {}
    for name, shape in bare.shapes().items():
        typical = 4 / np.sqrt(shape[-1]) if name.endswith(".w") else 1.0
        arrays[name] = np.broadcast_to(np.float64(typical), shape)
    return FlowARSpec(**{**sizes, "arrays": arrays})  # type: ignore[arg-type]


def rotations(angles: np.ndarray) -> np.ndarray:
    """Angles [L, P] -> rotation matrices [L, P, 2, 2] of pairs (even, odd)."""
    cos, sin = np.cos(angles), np.sin(angles)
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


FLOWAR_S = {
    "scales": (1, 2, 4, 8, 16),
    "channels": 16,
    "width": 768,
    "num_heads": 12,
    "encoder_depth": 6,
    "decoder_depth": 6,
    "flow_width": 1024,
    "flow_num_heads": 16,
    "flow_depth": 2,
    "num_classes": 1001,
    "times": tuple(np.linspace(1, 0, 26).tolist()),
}
"""Sizes of FlowAR-S at 256 px: a 16 x 16 x 16 latent, 25 Euler steps per scale."""
