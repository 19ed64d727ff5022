"""The neutral description of a FlowAR model that gets compiled: sizes and real arrays, no framework.

Letters: K scales with sides s_k in patches of P x P pixels, L = sum s_k^2 tokens, C channels of a pixel, E = P P C
channels of a token (row, column, channel), D width, M = int(8 D / 3) hidden width of the MLP, d width of a head, h
heads, W width of the flow head, V classes (the null class included, last), N Euler steps.

Arrays (float64; `.w` is [out, in], `.b` is [out]):
class_embed [V, D]; input.w, input.b, input_norm [D]; encoder_position, decoder_position, semantics_position [L, D];
encoder_norm, decoder_norm [D]; decoder_proj.w/.b; rotation [L, d/2, 2, 2], flow_rotation [L, d'/2, 2, 2]; per block
("block0", ..., "flow0", ...) qkv.w/.b, proj.w/.b, gate.w/.b, value.w/.b, out.w/.b and either modulation [V, 6 D]
(transformer: one per class) or modulation.w/.b (flow head: from the condition); condition.w/.b [W, D]; time [N, W];
flow_input.w/.b, final.w/.b (2 W), output.w/.b; resample1, ..., resample(K-1) [(s_{k+1} P)^2, (s_k P)^2] between pixels.
Modulations stand in the order gamma1, gamma2, scale1, scale2, shift1, shift2.

With cross-attention a flow block has modulation.w/.b (3 W: gamma, scale, shift of the MLP), time_modulation [N, 3 W]
(of the attention), cross_norm [W], semantics_norm [D], cross.q.w [W, W], cross.kv.w [2 W, D], cross.proj.w/.b. With
bounded or low-rank attention each has tau [h] and centre [h, d] (those of cross-attention under cross.), and one with a
polynomial put in has shift [h, d].

The second flow head of a HOFAR, for the acceleration, has all that the first has (condition, time, flow_input, flow0,
..., final, output), under acceleration.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from flowgression.circuits.arrays import check_arrays, random_arrays, typical_arrays, with_biases
from flowgression.circuits.kinds import Attention, Polynomial
from flowgression.errors import InputError

ACCELERATION = "acceleration."
"""What the names of the second flow head's arrays and values begin with."""


@dataclass(frozen=True)
class FlowARSpec:
    """Sizes of a FlowAR model, how it is sampled, and its arrays (empty for shapes alone).

    times: rising, from 0 (noise) to 1 (data): one Euler step between neighbours, the same at every scale.
    cross_attention: flow blocks with cross-attention instead of Spatial-adaLN.
    polynomial_coefficients: of the polynomial in place of exp (FastFlowAR); None: softmax.
    bounded: softmax of logits tau cos(q, k - centre). unit_values: values of length 1.
    approximation: by the attention ("block0", "flow0", "flow0.cross"), coefficients of what `theory.approximate` put
        in place of exp.
    guidance_scale: at the last scale; it rises from 1 linearly over the scales. 1: no guidance.
    guidance_interval: the times at which it applies, both ends included.
    accelerated: two flow heads, velocity and acceleration, and Taylor's steps of second order (HOFAR).

    title: what programs of it are called; by default as the class.

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
    times: tuple[float, ...] = (0.0, 1.0)
    arrays: dict[str, np.ndarray] = field(default_factory=dict, repr=False, compare=False)
    patch_size: int = 1
    cross_attention: bool = False
    polynomial_coefficients: tuple[float, ...] | None = None
    bounded: bool = False
    unit_values: bool = False
    approximation: Mapping[str, tuple[float, ...]] = field(default_factory=dict)
    guidance_scale: float = 1.0
    guidance_interval: tuple[float, float] = (0.0, 1.0)
    accelerated: bool = False
    title: str = ""

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
        if len(self.times) < 2 or self.times[0] != 0 or self.times[-1] != 1:
            raise InputError(f"times are {self.times}, expected a rising grid from 0 to 1.")
        if self.patch_size < 1:
            raise InputError(f"patch_size is {self.patch_size}, expected 1 or more.")
        check_arrays(self.arrays, self.shapes())

    @property
    def name(self) -> str:
        return self.title or type(self).__name__.removesuffix("Spec")

    @property
    def tokens(self) -> tuple[int, ...]:
        """Tokens of each scale."""
        return tuple(side * side for side in self.scales)

    @property
    def token_channels(self) -> int:
        return self.channels * self.patch_size**2

    @property
    def depth(self) -> int:
        """Blocks of the autoregressive transformer."""
        return self.encoder_depth + self.decoder_depth

    @property
    def guided(self) -> bool:
        return self.guidance_scale != 1.0

    def guidance_at(self, k: int, time: float) -> float:
        """The guidance scale of scale k (from 0) at a time; 1 outside of the interval (flow/guidance.py)."""
        first, last = self.guidance_interval
        if not first - 1e-6 <= time <= last + 1e-6:
            return 1.0
        share = k / (len(self.scales) - 1) if len(self.scales) > 1 else 1.0
        return 1 + (self.guidance_scale - 1) * share

    @property
    def cosine(self) -> bool:
        """Whether logits are tau times a cosine."""
        return self.bounded or self.polynomial_coefficients is not None

    def attention(self, name: str) -> Attention:
        """The kind of the attention "block0", "flow0", "flow0.cross", ...; a flow head's sums run over one scale."""
        name = name.removeprefix(ACCELERATION)
        coefficients = self.approximation.get(name, self.polynomial_coefficients)
        tokens = max(self.tokens) if name.startswith("flow") else sum(self.tokens)
        polynomial = None if coefficients is None else Polynomial(coefficients, tokens)
        return Attention(self.cosine, self.unit_values, polynomial, name in self.approximation)

    @property
    def heads(self) -> tuple[str, ...]:
        """What the names of each flow head's arrays and values begin with."""
        return ("", ACCELERATION) if self.accelerated else ("",)

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Name and shape of every array."""
        D, W, E, L, V = self.width, self.flow_width, self.token_channels, sum(self.tokens), self.num_classes
        pixels = self.patch_size**2
        shapes: dict[str, tuple[int, ...]] = {"class_embed": (V, D)}
        shapes |= dict.fromkeys(("input_norm", "encoder_norm", "decoder_norm"), (D,))
        shapes |= {f"{name}_position": (L, D) for name in ("encoder", "decoder", "semantics")}
        shapes["rotation"] = (L, D // self.num_heads // 2, 2, 2)
        shapes["flow_rotation"] = (L, W // self.flow_num_heads // 2, 2, 2)
        for k, (coarse, fine) in enumerate(zip(self.tokens, self.tokens[1:], strict=False)):
            shapes[f"resample{k + 1}"] = (fine * pixels, coarse * pixels)
        linears = {"input": (D, E), "decoder_proj": (D, D)}
        for i in range(self.depth):
            linears |= _block(f"block{i}", D)
            shapes[f"block{i}.modulation"] = (V, 6 * D)
            shapes |= self._attention_shapes(f"block{i}", D, self.num_heads)
        shapes |= with_biases(linears)
        return shapes | {f"{head}{name}": shape for head in self.heads for name, shape in self._head_shapes().items()}

    def _head_shapes(self) -> dict[str, tuple[int, ...]]:
        """Those of a flow head."""
        D, W, E, N = self.width, self.flow_width, self.token_channels, len(self.times) - 1
        shapes: dict[str, tuple[int, ...]] = {"time": (N, W)}
        linears = {"condition": (W, D), "flow_input": (W, E), "final": (2 * W, W), "output": (E, W)}
        for i in range(self.flow_depth):
            linears |= _block(f"flow{i}", W) | {f"flow{i}.modulation": ((3 if self.cross_attention else 6) * W, W)}
            if self.cross_attention:
                shapes |= {f"flow{i}.time_modulation": (N, 3 * W), f"flow{i}.cross_norm": (W,)}
                shapes |= {f"flow{i}.semantics_norm": (D,), f"flow{i}.cross.q.w": (W, W)}
                shapes[f"flow{i}.cross.kv.w"] = (2 * W, D)
                linears[f"flow{i}.cross.proj"] = (W, W)
                shapes |= self._attention_shapes(f"flow{i}.cross", W, self.flow_num_heads)
            shapes |= self._attention_shapes(f"flow{i}", W, self.flow_num_heads)
        return shapes | with_biases(linears)

    def _attention_shapes(self, name: str, width: int, heads: int) -> dict[str, tuple[int, ...]]:
        kind, by_head = self.attention(name), (heads, width // heads)
        shapes: dict[str, tuple[int, ...]] = {f"{name}.tau": (heads,), f"{name}.centre": by_head} if kind.cosine else {}
        return shapes | ({f"{name}.shift": by_head} if kind.shifted else {})


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
    arrays = random_arrays(seed, FlowARSpec(**sizes).shapes())  # type: ignore[arg-type]
    return FlowARSpec(**{**sizes, "arrays": arrays})  # type: ignore[arg-type]


def shapes_only(**sizes: object) -> FlowARSpec:
    """A model whose arrays hold one typical value each, in no memory: enough to count a circuit with weights as
    inputs.
    """
    return FlowARSpec(**{**sizes, "arrays": typical_arrays(FlowARSpec(**sizes).shapes())})  # type: ignore[arg-type]
