"""The flow-matching head of FlowAR: one network that turns noise into the map of any scale.

B: images, G: scales at hand, T: their tokens (sum of s^2), C: channels of a token, W: width of the head,
D: width of the semantic maps. Time runs from t = 0 (noise) to t = 1 (data) as everywhere in this library. In the paper
(arXiv 2412.15205, section 3.3), and in released weights, it runs the other way; the head turns it inside.
"""

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from flowgression.errors import InputError
from flowgression.families.flowar.scales import per_token
from flowgression.layers.embeddings import TimestepEmbedder
from flowgression.layers.gated_mlp import GatedMlp
from flowgression.layers.lowrank_attention import LowRank
from flowgression.layers.modulated_block import ModulatedBlock
from flowgression.layers.modulation import AdaLN, gated, match_rows, modulate
from flowgression.layers.norms import RMSNorm
from flowgression.layers.rotary import Rotation, ScaleRotary
from flowgression.layers.scale_attention import KeysValues, ScaleAttention, ScaleCrossAttention
from flowgression.layers.weights import compute_dtype

TIME_STEPS = 1000  # the head sees the time as one of this many integers


class SpatialBlock(ModulatedBlock):
    """Attn-MLP with Spatial-adaLN: every position is modulated by its own condition."""

    time_parts = 0

    def __init__(self, hidden_size: int, num_heads: int, semantics_size: int, lowrank: LowRank | None = None):
        attention = ScaleAttention(hidden_size, num_heads, causal=False, qkv_bias=False, lowrank=lowrank)
        super().__init__(attention, hidden_size)

    def forward(  # type: ignore[override]
        self,
        x: Tensor,
        time: Tensor | None,
        condition: Tensor,
        semantics: Tensor | KeysValues | None,
        rotation: Rotation,
        lengths: Sequence[int],
    ) -> Tensor:
        """As `CrossBlock.forward`; time and semantics count only as parts of the condition."""
        return super().forward(x, condition, rotation, lengths)[0]

    def read_semantics(self, semantics: Tensor, rotation: Rotation) -> None:
        """Nothing but the condition depends on the semantic map."""
        return None

    def read_time(self, activated: Tensor) -> tuple[()]:
        """Nothing but the condition depends on the time."""
        return ()


class TimeModulation(NamedTuple):
    """What a block makes of the time, each [B, 1 or T, W]; the factor is 1 + scale."""

    gamma: Tensor
    factor: Tensor
    shift: Tensor


class CrossBlock(nn.Module):
    """Attn-CrossAttn-MLP: attention modulated by time alone, then a look at the semantic map, then the MLP."""

    time_parts = 3

    def __init__(self, hidden_size: int, num_heads: int, semantics_size: int, lowrank: LowRank | None = None):
        super().__init__()
        self.norm1 = RMSNorm(hidden_size, weight=False)
        self.attn = ScaleAttention(hidden_size, num_heads, causal=False, qkv_bias=False, lowrank=lowrank)
        self.attn_modulation = AdaLN(hidden_size, 3)
        self.cross_norm = RMSNorm(hidden_size)
        self.semantics_norm = RMSNorm(semantics_size)
        self.cross_attn = ScaleCrossAttention(hidden_size, num_heads, semantics_size, lowrank)
        self.norm2 = RMSNorm(hidden_size, weight=False)
        self.mlp = GatedMlp(hidden_size)
        self.mlp_modulation = AdaLN(hidden_size, 3)

    def forward(
        self,
        x: Tensor,
        time: Tensor | TimeModulation,
        condition: Tensor,
        semantics: Tensor | KeysValues,
        rotation: Rotation,
        lengths: Sequence[int],
    ) -> Tensor:
        """x [B, T, W] -> [B, T, W].

        time: SiLU of the time's embedding [B, 1 or T, W], or what `read_time` made of it. condition: SiLU of the
        condition, [B, T, W]. semantics: [B, T, D], or what `read_semantics` made of it. Of a multiple of B conditions
        and semantics each reads the same x: that much of the block runs once.
        """
        of_time = time if isinstance(time, TimeModulation) else self.read_time(time)
        attended, _ = self.attn(modulate(self.norm1(x), of_time.shift, of_time.factor), rotation, lengths)
        x = match_rows(gated(x, of_time.gamma, attended), condition)
        seen = self.semantics_norm(semantics) if isinstance(semantics, Tensor) else semantics
        x = x + self.cross_attn(self.cross_norm(x), seen, rotation, lengths)
        gamma, scale, shift = self.mlp_modulation.of_activated(condition)
        return gated(x, gamma, self.mlp(modulate(self.norm2(x), shift, 1 + scale)))

    def read_time(self, activated: Tensor) -> TimeModulation:
        """Of SiLU of the time's embedding."""
        gamma, scale, shift = self.attn_modulation.of_activated(activated)
        return TimeModulation(gamma, 1 + scale, shift)

    def read_semantics(self, semantics: Tensor, rotation: Rotation) -> KeysValues:
        """The keys and values of a semantic map [B, T, D], the same in every step of the flow."""
        return self.cross_attn.keys_values(self.semantics_norm(semantics), rotation)


class ReadSemantics(NamedTuple):
    """What the head makes of a semantic map: the same in every step of the flow, so made once.

    condition: [B, T, W]. blocks: keys and values for each block; None for a block without cross-attention.
    """

    condition: Tensor
    blocks: tuple[KeysValues | None, ...]

    def first(self, rows: int) -> "ReadSemantics":
        """Those of the first so many maps, without a copy."""
        blocks = tuple(each and KeysValues(each.keys[:rows], each.values[:rows]) for each in self.blocks)
        return ReadSemantics(self.condition[:rows], blocks)


class FlowHead(nn.Module):
    """Velocity dx_t/dt of the map of a scale (x - e on the linear path), given x_t and the scale's semantic map.

    Args:
        sides: the sides of all scales in tokens, increasing.
        token_channels: C.
        semantics_size: D; hidden_size: W; depth: blocks; num_heads: heads, whose width must be divisible by 4.
        cross_attention: Attn-CrossAttn-MLP blocks instead of Spatial-adaLN blocks.
        lowrank: polynomial attention in all blocks; None: exact softmax.
        average_velocity: the head also reads r, the end of an interval from t on, and predicts the velocity averaged
            over it (`flow.average`); it sees time as it is, without rounding, as averages are differentiated by it.
    """

    _gradient_checkpointing_func: Callable[..., Tensor]  # set by diffusers when checkpointing is enabled

    def __init__(
        self,
        sides: Sequence[int],
        token_channels: int,
        semantics_size: int,
        hidden_size: int,
        depth: int,
        num_heads: int,
        cross_attention: bool,
        lowrank: LowRank | None = None,
        average_velocity: bool = False,
    ):
        super().__init__()
        self.sides = tuple(sides)
        self.token_channels = token_channels
        self.time_embed = TimestepEmbedder(hidden_size)
        self.interval_embedder = TimestepEmbedder(hidden_size) if average_velocity else None
        self.cond_embed = nn.Linear(semantics_size, hidden_size)
        self.input_proj = nn.Linear(token_channels, hidden_size)
        self.rotary = ScaleRotary(self.sides, hidden_size // num_heads)
        self.blocks = nn.ModuleList()
        for _ in range(depth):
            block = CrossBlock if cross_attention else SpatialBlock
            self.blocks.append(block(hidden_size, num_heads, semantics_size, lowrank))
        self.final_norm = RMSNorm(hidden_size, weight=False)
        self.final_modulation = AdaLN(hidden_size, 2)
        self.output_proj = nn.Linear(hidden_size, token_channels)
        self.gradient_checkpointing = False

    def forward(
        self,
        x: Tensor,
        t: Tensor | None,
        semantics: Tensor | ReadSemantics,
        sides: Sequence[int] | None = None,
        *,
        r: Tensor | None = None,
        prepared: Tensor | None = None,
    ) -> Tensor:
        """Velocity of the tokens of one scale, or of several at once (each attends only to itself).

        Args:
            x: noised tokens x_t of data x and noise e, t x + (1 - t) e on the linear path; [B, T, C].
            t: time in [0, 1], [B], or [B, G] with one time per scale; 0 is noise, 1 is data. The network sees 1 - t
                rounded down to thousandths: in float32 1 - 0.35 may fall below 0.65, in float64 it does not. None
                with `prepared`.
            semantics: semantic map, [B, T, D], or what `read` made of it. It may have mB rows: the velocity has them
                then too, of the same x m times.
            sides: the scales that T is made of, neighbours, coarse to fine; default: the one scale with T tokens.
            r: like t, t <= r <= 1: with `average_velocity` the end of the interval over which the velocity is averaged;
                None: t, the velocity itself.
            prepared: [F], a row of `prepare`: one time for all.

        Returns:
            [B, T, C] in the dtype of the network.

        Raises:
            InputError: T belongs to no scale of this model, x has other channels, or r is given to a velocity head.
        """
        sides = self._sides_of(x, sides)
        lengths = [side**2 for side in sides]
        rotation = self.rotary(sides)
        seen: Sequence[Any]
        if isinstance(semantics, Tensor):
            semantics = semantics.to(compute_dtype(self.cond_embed))
            # A block reads its keys and values itself, so that checkpointing makes them again.
            embedded, seen = self.cond_embed(semantics), (semantics,) * len(self.blocks)
        else:
            embedded, seen = semantics
        times: Sequence[Any]
        if prepared is None:
            assert t is not None, "give t or prepared"
            time = self._embed_times(t.reshape(len(x), -1), None if r is None else r.reshape(len(x), -1))
            if time.shape[1] > 1:
                time = per_token(time, lengths)
            times = (silu(time),) * len(self.blocks)
        else:
            time, times = self._prepared_parts(prepared)
        condition = silu(time + embedded)
        # As in DiT, the residual stream keeps the dtype of the weights under autocast, too.
        dtype = compute_dtype(self.input_proj)
        x = self.input_proj(x.to(dtype)).to(dtype)
        for block, of_time, of_block in zip(self.blocks, times, seen, strict=True):
            args = (x, of_time, condition, of_block, rotation, lengths)
            if self.gradient_checkpointing and torch.is_grad_enabled():
                x = self._gradient_checkpointing_func(block, *args)
            else:
                x = block(*args)
        shift, scale = self.final_modulation.of_activated(condition)
        return -self.output_proj(modulate(self.final_norm(x), shift, 1 + scale))

    def prepare(self, times: Tensor, ends: Tensor | None = None) -> Tensor:
        """What depends on times [n] in [0, 1], and ends of intervals [n], alone: [n, F], whose rows `forward` takes as
        `prepared`.
        """
        embedded = self._embed_times(times, ends)
        activated = silu(embedded)
        parts = [part for block in self._blocks() for part in block.read_time(activated)]
        return torch.cat([embedded, *parts], dim=-1)

    @property
    def prepared_sizes(self) -> list[int]:
        """The widths of the parts that `prepare` puts side by side; F is their sum."""
        return [self.cond_embed.out_features] * (1 + sum(block.time_parts for block in self._blocks()))

    def _prepared_parts(self, prepared: Tensor) -> tuple[Tensor, list[Any]]:
        """prepared [F] -> the embedding of the time [1, 1, W] and what each block made of it."""
        embedded, *parts = prepared.expand(1, 1, -1).split(self.prepared_sizes, dim=-1)
        size = len(parts) // len(self.blocks)
        of_blocks = [parts[i * size : (i + 1) * size] for i in range(len(self.blocks))]
        return embedded, [TimeModulation(*each) if each else None for each in of_blocks]

    def _blocks(self) -> list[Any]:
        return list(self.blocks)

    def _embed_times(self, t: Tensor, r: Tensor | None = None) -> Tensor:
        """[*] -> [*, W]: turned in t's own precision, then rounded down in float32, as the released sampler does.

        With averages it is not rounded, and the length of the interval to r [*] counts too.
        """
        steps = TIME_STEPS * (1 - t).float()
        if self.interval_embedder is None:
            if r is not None:
                raise InputError("r ends an interval, and this model predicts velocities (average_velocity=False).")
            return self.time_embed(torch.floor(steps))
        return self.time_embed(steps) + self.interval_embedder(torch.zeros_like(t) if r is None else r - t)

    def read(self, semantics: Tensor, sides: Sequence[int]) -> ReadSemantics:
        """What does not depend on time: the condition and, for cross-attention, keys and values of every block.

        Args:
            semantics: [B, T, D]. sides: the scales that T is made of, as in `forward`.
        """
        semantics, rotation = semantics.to(compute_dtype(self.cond_embed)), self.rotary(sides)
        blocks = tuple(block.read_semantics(semantics, rotation) for block in self._blocks())
        return ReadSemantics(self.cond_embed(semantics), blocks)

    def initialise(self) -> None:
        """Set what differs from the model's common initial weights: small time features and a velocity of 0."""
        for parameter in self.time_embed.parameters():
            if parameter.ndim == 2:
                nn.init.normal_(parameter, std=0.02)
        for parameter in self.output_proj.parameters():
            nn.init.zeros_(parameter)
        if self.interval_embedder is not None:  # at first, and so behind weights without it, averages are velocities
            for parameter in self.interval_embedder.mlp[2].parameters():
                nn.init.zeros_(parameter)

    def _sides_of(self, x: Tensor, sides: Sequence[int] | None) -> tuple[int, ...]:
        if x.shape[-1] != self.token_channels:
            raise InputError(
                f"tokens have {x.shape[-1]} channels but this flow head works on {self.token_channels} "
                "(latent channels times patch_size squared)."
            )
        chosen = tuple(s for s in self.sides if s * s == x.shape[1]) if sides is None else tuple(sides)
        if not chosen or sum(s * s for s in chosen) != x.shape[1] or not set(chosen) <= set(self.sides):
            raise InputError(
                f"{x.shape[1]} tokens do not make a map of this model: its scales have sides {self.sides}, "
                f"that is {', '.join(str(s * s) for s in self.sides)} tokens."
            )
        return chosen
