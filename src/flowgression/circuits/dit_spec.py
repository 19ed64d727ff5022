"""The neutral description of a SiT or ARFlow that gets compiled: sizes and real arrays, no framework.

Letters: h w grid of tokens, T = h w of them, P patch size, C channels, E = P P C channels of a token (row, column,
channel), D width, A heads of width d, H hidden width of the MLP, V classes (the null class included, last), N steps.

Arrays (float64; `.w` is [out, in], `.b` is [out]): class_embed [V, D], time [N, D], position [T, D], patch.w/.b, per
block modulation.w/.b (6 D: shift1, scale1, gate1, shift2, scale2, gate2), fc1.w/.b, fc2.w/.b and, in a SiT, qkv.w/.b
and proj.w/.b, in an ARFlow q.w, k.w, v.w, g.w, out.w [D, D] and gt.w [A, D]; final_modulation.w/.b (shift, scale),
final.w/.b (E).
"""

from dataclasses import dataclass, field

import numpy as np

from flowgression.circuits.arrays import check_arrays, random_arrays, with_biases
from flowgression.errors import InputError


@dataclass(frozen=True)
class DiTSpec:
    """Sizes of a SiT or ARFlow, how it is sampled, and its arrays (empty for shapes alone).

    context: what an image sees of the images before it in an ARFlow (ops/hybrid_linear); None: a SiT.
    times: rising, from 0 (noise) to 1 (data): one Euler step between neighbours.
    guidance_scale, guidance_interval: as in FlowARSpec, the same at every step of the interval.

    title: what programs of it are called; by default as the class.

    Raises InputError for sizes that do not fit each other.
    """

    grid: tuple[int, int] = (2, 2)
    patch_size: int = 1
    channels: int = 1
    width: int = 4
    num_heads: int = 1
    depth: int = 1
    mlp_width: int = 8
    num_classes: int = 4
    times: tuple[float, ...] = (0.0, 1.0)
    context: str | None = None
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    title: str = ""

    def __post_init__(self) -> None:
        if min(self.grid) < 1 or self.patch_size < 1 or self.depth < 1:
            raise InputError(
                f"grid {self.grid}, patch_size {self.patch_size} and depth {self.depth} must be 1 or more."
            )
        if self.width < 2 or self.num_heads < 1 or self.width % self.num_heads:
            raise InputError(f"width {self.width} does not split into {self.num_heads} heads.")
        if len(self.times) < 2 or self.times[0] != 0 or self.times[-1] != 1:
            raise InputError(f"times are {self.times}, expected a rising grid from 0 to 1.")
        check_arrays(self.arrays, self.shapes())

    @property
    def name(self) -> str:
        return self.title or type(self).__name__.removesuffix("Spec")

    @property
    def tokens(self) -> int:
        return self.grid[0] * self.grid[1]

    @property
    def pixels(self) -> int:
        return self.tokens * self.patch_size**2

    @property
    def guided(self) -> bool:
        return self.guidance_scale != 1.0

    def guidance_at(self, time: float) -> float:
        """The guidance scale at a time; 1 outside of the interval (flow/guidance.py)."""
        first, last = self.guidance_interval
        return self.guidance_scale if first - 1e-6 <= time <= last + 1e-6 else 1.0

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array."""
        D, E = self.width, self.channels * self.patch_size**2
        shapes: dict[str, tuple[int, ...]] = {"class_embed": (self.num_classes, D), "position": (self.tokens, D)}
        shapes["time"] = (len(self.times) - 1, D)
        linears = {"patch": (D, E), "final_modulation": (2 * D, D), "final": (E, D)}
        for i in range(self.depth):
            parts = {"modulation": (6 * D, D), "fc1": (self.mlp_width, D), "fc2": (D, self.mlp_width)}
            if self.context is None:
                parts |= {"qkv": (3 * D, D), "proj": (D, D)}
            else:
                shapes |= {f"block{i}.{part}.w": (D, D) for part in ("q", "k", "v", "g", "out")}
                shapes[f"block{i}.gt.w"] = (self.num_heads, D)
            linears |= {f"block{i}.{part}": shape for part, shape in parts.items()}
        return shapes | with_biases(linears)


def random_dit(seed: int = 0, **sizes: object) -> DiTSpec:
    """A model with random weights, for tests and scaling studies; each array depends on the seed and its name."""
    bare = DiTSpec(**sizes)  # type: ignore[arg-type]
    return DiTSpec(**{**sizes, "arrays": random_arrays(seed, bare.shapes())})  # type: ignore[arg-type]
