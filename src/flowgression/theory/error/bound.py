"""A bound on the difference of two images: of a FlowAR with softmax, and with polynomials in some of its layers.

The approximated model is run, in float64, and beside every tensor the radius of a ball around it that holds the exact
model's tensor is kept (`balls`). So the result holds for the noise and labels at hand: a theorem, and a loose one,
since errors that would cancel are added and every layer is taken at its worst direction. The exact model is that of
exact arithmetic with these weights and constants (sines and cosines, times, weights of resampling, as PyTorch makes
them); what float64 loses in this run is part of the radius, also where no layer has a polynomial.

B: images, T: tokens, D: width, A: heads, d: width of a head, k: index of a scale.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import interpolate

from flowgression.families.flowar.flow_head import TIME_STEPS, CrossBlock
from flowgression.families.flowar.model import FlowAR
from flowgression.families.flowar.scales import area_resize, to_map
from flowgression.families.flowar.schedules import scale_times
from flowgression.layers.bounded_attention import CosineLogits
from flowgression.layers.embeddings import TimestepEmbedder, sinusoidal_features
from flowgression.layers.gated_mlp import GatedMlp
from flowgression.layers.modulation import AdaLN
from flowgression.layers.norms import RMSNorm
from flowgression.layers.patches import patchify
from flowgression.layers.rotary import Rotation, apply_rotary
from flowgression.sampling.request import pick_solver
from flowgression.theory.error import balls
from flowgression.theory.error.balls import Ball, Norms
from flowgression.theory.error.polynomial import LayerPolynomial, softmax_lost
from flowgression.theory.error.rounding import length, upward


@dataclass
class OutputBound:
    """What is known of the last map.

    Attributes:
        sample: [B, C, H, H] float64, of the approximated model.
        bound: [B, H, H], on the Euclidean norm over channels of its difference to the exact model's, rounding included.
        calls: per layer, the largest bound on the error of one attention call (its own weights alone).
        outside: layers where a logit left the interval of the polynomial, so that nothing is known of its weights.
    """

    sample: Tensor
    bound: Tensor
    calls: dict[str, float] = field(default_factory=dict)
    outside: set[str] = field(default_factory=set)


@torch.no_grad()
def bound_output(
    model: FlowAR,
    polynomials: Mapping[str, LayerPolynomial],
    class_labels: Tensor,
    noise: Sequence[Tensor],
    *,
    num_inference_steps: int,
    guidance_scale: float,
) -> OutputBound:
    """Bound the error that `polynomials` make in images drawn with Euler's method on equal steps.

    Args:
        model: exact or bounded attention, in float64.
        polynomials: by the name of the layer, such as "encoder_blocks.0.attn"; other layers stay exact.
        class_labels: [B]. noise: [B, s_k^2, P P C] of each scale.
        num_inference_steps: at each scale. guidance_scale: as in `flowgression.families.flowar.sampling.sample`.
    """
    walk = _Walk(model, polynomials)
    count = len(model.scales)
    result = OutputBound(torch.empty(0), torch.empty(0), walk.calls, walk.outside)
    maps: list[Ball] = []
    grid = scale_times(pick_solver("euler"), num_inference_steps, "uniform").tolist()
    null = torch.full_like(class_labels, model.config.num_classes)
    for k in range(count):
        scale = guidance_scale if count == 1 else 1 + (guidance_scale - 1) * k / (count - 1)
        halves = [class_labels] if scale == 1 and guidance_scale == 1 else [class_labels, null]
        semantics = [walk.semantics(maps, labels) for labels in halves]
        x = balls.exact(noise[k].double())
        for t, following in pairwise(grid):
            velocities = [walk.velocity(x, t, each) for each in (semantics if scale != 1 else semantics[:1])]
            v = velocities[0]
            if scale != 1:
                v = balls.scaled(velocities[0], scale) + balls.scaled(velocities[1], 1 - scale)
            x = x + balls.scaled(v, following - t)
        maps.append(_pixels(x, model.config.patch_size))
    result.sample, result.bound = maps[-1].centre.permute(0, 3, 1, 2), maps[-1].radius
    return result


def _pixels(tokens: Ball, patch: int) -> Ball:
    """Tokens [B, s^2, P P C] -> pixels [B, s P, s P, C]: a pixel is part of a token, so no farther off."""
    image = to_map(tokens.centre, patch).permute(0, 2, 3, 1)
    side = math.isqrt(tokens.radius.shape[1])
    radius = tokens.radius.unflatten(1, (side, side)).repeat_interleave(patch, 1).repeat_interleave(patch, 2)
    return Ball(image, radius)


class _Walk:
    """The layers of one model on balls; remembers what single attention calls may be off by."""

    def __init__(self, model: FlowAR, polynomials: Mapping[str, LayerPolynomial]):
        self.model: Any = model
        self.polynomials = polynomials
        self.calls: dict[str, float] = {}
        self.outside: set[str] = set()
        self._resizing: dict[int, Tensor] = {}
        self._norms: dict[Any, Norms] = {}

    def semantics(self, maps: Sequence[Ball], class_labels: Tensor) -> Ball:
        """The semantic map of the scale after `maps`, as `FlowAR.semantics` gives it."""
        model = self.model
        condition = balls.exact(model.class_embed(class_labels)[:, None])
        sides = model.scales[: len(maps) + 1]
        first = Ball(condition.centre.expand(-1, sides[0] ** 2, -1), condition.radius.expand(-1, sides[0] ** 2))
        tokens = [first] + [self._input(k, maps[k - 1]) for k in range(1, len(sides))]
        lengths = [side**2 for side in sides]
        here = slice(0, sum(lengths))
        rotation = model.rotary(sides)
        x = balls.concatenate(tokens) + balls.exact(model.encoder_position[:, here])
        x = self._norm(x, model.input_norm)
        for i, block in enumerate(model.encoder_blocks):
            x = self._modulated_block(x, condition, block, f"encoder_blocks.{i}", rotation, lengths)
        x = self.linear(self._norm(x, model.encoder_norm), model.decoder_proj)
        x = x + balls.exact(model.decoder_position[:, here])
        for i, block in enumerate(model.decoder_blocks):
            x = self._modulated_block(x, condition, block, f"decoder_blocks.{i}", rotation, lengths)
        x = self._norm(x, model.decoder_norm) + balls.exact(model.semantics_position[:, here])
        return x.split(lengths)[-1]

    def velocity(self, x: Ball, t: float, semantics: Ball) -> Ball:
        """As `FlowHead.forward` on the tokens of one scale."""
        head = self.model.flow_head
        turned = (1 - x.centre.new_full((len(x.centre), 1), t)).float()
        time = self._time(torch.floor(TIME_STEPS * turned), head.time_embed)
        condition = time + self.linear(semantics, head.cond_embed)
        side = math.isqrt(x.radius.shape[1])
        rotation, lengths = head.rotary((side,)), [side**2]
        x = self.linear(x, head.input_proj)
        for i, block in enumerate(head.blocks):
            name = f"flow_head.blocks.{i}"
            if isinstance(block, CrossBlock):
                x = self._cross_block(x, time, condition, semantics, block, name, rotation, lengths)
            else:
                x = self._modulated_block(x, condition, block, name, rotation, lengths)
        shift, scale = self._modulation(condition, head.final_modulation)
        out = self.linear(self._modulated(self._norm(x, head.final_norm), shift, scale), head.output_proj)
        return balls.scaled(out, -1)

    def _time(self, t: Tensor, embedder: TimestepEmbedder) -> Ball:
        """t [B, 1], the sinusoids of which are constants."""
        x = balls.exact(sinusoidal_features(t, embedder.frequency_size).double())
        return self.linear(balls.activation_silu(self.linear(x, embedder.mlp[0])), embedder.mlp[2])

    def linear(self, x: Ball, layer: Any) -> Ball:
        return balls.linear(x, layer.weight, layer.bias, self._norms_of(layer.weight, layer.bias))

    def _norms_of(self, weight: Tensor, bias: Tensor | None, *groups: int) -> Norms:
        """Of a weight whose rows are cut into equal groups, or not: each norm has the shape `groups`."""
        key = (weight.data_ptr(), tuple(weight.shape), groups)
        if key not in self._norms:
            rows = weight if not groups else weight.unflatten(0, (*groups, -1))
            self._norms[key] = Norms.of(rows, bias if bias is None or not groups else bias.unflatten(0, (*groups, -1)))
        return self._norms[key]

    def _norm(self, x: Ball, norm: RMSNorm) -> Ball:
        return balls.rms_normalised(x, norm.eps, norm.weight)

    def _modulation(self, condition: Ball, layer: AdaLN) -> list[Ball]:
        """The chunks of Linear(SiLU(c)); each by the rows of the weight that make it."""
        active = balls.activation_silu(condition)
        projection: Any = layer[1]
        centres = projection(active.centre).chunk(layer.chunks, dim=-1)
        norms = self._norms_of(projection.weight, projection.bias, layer.chunks)
        return [Ball(centre, Norms(*each).radius(active)) for centre, *each in zip(centres, *norms, strict=True)]

    def _modulated(self, x: Ball, shift: Ball, scale: Ball) -> Ball:
        return balls.product(x, balls.plus_one(scale)) + shift

    def _modulated_block(
        self, x: Ball, condition: Ball, block: Any, name: str, rotation: Rotation, lengths: Sequence[int]
    ) -> Ball:
        gamma1, gamma2, scale1, scale2, shift1, shift2 = self._modulation(condition, block.modulation)
        inside = self._modulated(self._norm(x, block.norm1), shift1, scale1)
        x = x + balls.product(self._self_attention(inside, block.attn, f"{name}.attn", rotation, lengths), gamma1)
        return x + balls.product(
            self._mlp(self._modulated(self._norm(x, block.norm2), shift2, scale2), block.mlp), gamma2
        )

    def _cross_block(
        self,
        x: Ball,
        time: Ball,
        condition: Ball,
        semantics: Ball,
        block: CrossBlock,
        name: str,
        rotation: Rotation,
        lengths: Sequence[int],
    ) -> Ball:
        gamma, scale, shift = self._modulation(time, block.attn_modulation)
        inside = self._modulated(self._norm(x, block.norm1), shift, scale)
        x = x + balls.product(self._self_attention(inside, block.attn, f"{name}.attn", rotation, lengths), gamma)
        layer: Any = block.cross_attn
        q = self._heads(self._norm(x, block.cross_norm), layer.q.weight, None, layer.num_heads, 1)[0]
        context = self._norm(semantics, block.semantics_norm)
        k, v = self._heads(context, layer.kv.weight, None, layer.num_heads, 2)
        attended = self._attention(q, k, v, layer, f"{name}.cross_attn", rotation, lengths)
        x = x + self.linear(attended, layer.proj)
        gamma, scale, shift = self._modulation(condition, block.mlp_modulation)
        inside = self._modulated(self._norm(x, block.norm2), shift, scale)
        return x + balls.product(self._mlp(inside, block.mlp), gamma)

    def _mlp(self, x: Ball, mlp: GatedMlp) -> Ball:
        gate = balls.activation_gelu(self.linear(x, mlp.gate))
        return self.linear(balls.product(gate, self.linear(x, mlp.value)), mlp.out)

    def _self_attention(self, x: Ball, layer: Any, name: str, rotation: Rotation, lengths: Sequence[int]) -> Ball:
        q, k, v = self._heads(x, layer.qkv.weight, layer.qkv.bias, layer.num_heads, 3)
        return self.linear(self._attention(q, k, v, layer, name, rotation, lengths), layer.proj)

    def _heads(self, x: Ball, weight: Tensor, bias: Tensor | None, num_heads: int, parts: int) -> list[Ball]:
        """A projection cut into `parts` of `num_heads` heads: [B, A, T, d], each by its own rows of the weight."""
        out = torch.nn.functional.linear(x.centre, weight, bias)
        centres = out.unflatten(-1, (parts, num_heads, -1)).permute(2, 0, 3, 1, 4).unbind(0)
        norms = self._norms_of(weight, bias, parts, num_heads)
        every_head = Ball(x.centre[:, None], x.radius[:, None])
        return [
            Ball(centre, Norms(*(norm[..., None] for norm in each)).radius(every_head))
            for centre, *each in zip(centres, *norms, strict=True)
        ]

    def _attention(
        self, q: Ball, k: Ball, v: Ball, layer: Any, name: str, rotation: Rotation, lengths: Sequence[int]
    ) -> Ball:
        """Heads [B, A, T, d] -> attended tokens [B, T, D]: the polynomial where the layer has one, exact else."""
        q, k = self._rotated(q, rotation), self._rotated(k, rotation)
        module = layer.attention
        q, k, v = _factors(module, q, k, v)
        polynomial = self.polynomials.get(name)
        if polynomial is not None:
            k = balls.rounded(polynomial.shifted(k.centre), k.radius)
        outputs, start = [], 0
        for count in lengths:
            stop = start + count
            visible = slice(0 if module.causal else start, stop)
            here = _tokens(q, slice(start, stop))
            outputs.append(self._call(here, _tokens(k, visible), _tokens(v, visible), polynomial, name))
            start = stop
        merged = balls.concatenate(outputs)  # [B, A, T, d]
        radius = length(merged.radius.transpose(1, -1))
        return Ball(merged.centre.transpose(1, 2).flatten(-2), radius)

    def _call(self, q: Ball, k: Ball, v: Ball, polynomial: LayerPolynomial | None, name: str) -> Ball:
        """One attention of queries [B, A, M, d] over keys and values [B, A, N, d]."""
        logits = q.centre @ k.centre.mT
        if polynomial is None:
            centre = torch.softmax(logits, dim=-1) @ v.centre
            radius, _ = balls.attention(q, k, v, centre, 0.0, softmax_lost(logits.abs().max().item()))
            return Ball(centre, radius)
        centre = polynomial.average(logits, v.centre)
        outside = logits.abs().amax((0, 2, 3)) > polynomial.bounds  # [A]
        if outside.any():
            self.outside.add(name)
        epsilons = torch.where(outside, 1.0, polynomial.epsilons)
        lost = torch.where(outside, math.inf, polynomial.lost)[:, None]
        radius, own = balls.attention(q, k, v, centre, epsilons, lost)
        self.calls[name] = max(self.calls.get(name, 0.0), own.max().item())
        return Ball(centre, radius)

    def _rotated(self, x: Ball, rotation: Rotation) -> Ball:
        """A rotation changes no length, but for the rounding of its sines and cosines."""
        stretch = upward(rotation.cos.double().square() + rotation.sin.double().square()).max().sqrt()
        return balls.rounded(apply_rotary(x.centre, rotation), stretch.clamp(min=1.0) * x.radius, 4)

    def _input(self, k: int, previous: Ball) -> Ball:
        """The map of scale k - 1, [B, h, w, C], enlarged, shrunk and projected to the tokens of scale k."""
        patch, side = self.model.config.patch_size, self.model.scales[k] * self.model.config.patch_size
        matrix = self._resize_matrix(previous.centre.shape[1], side, previous.centre)
        pixels = balls.resampled(previous, matrix, matrix)
        tokens = patchify(pixels.centre.permute(0, 3, 1, 2), patch)
        squares = pixels.radius.square().unflatten(1, (-1, patch)).unflatten(3, (-1, patch))
        radius = upward(squares.sum((2, 4)), patch**2 + 4).sqrt().flatten(1)
        return self.linear(Ball(tokens, upward(radius)), self.model.input_proj)

    def _resize_matrix(self, side: int, new_side: int, like: Tensor) -> Tensor:
        """[new_side, side]: what `next_input` does along one axis. Both its steps are linear and separable."""
        key = side * 10_000 + new_side
        if key not in self._resizing:
            full = self.model.config.sample_size
            basis = torch.eye(side, dtype=like.dtype, device=like.device)[:, None, :, None].expand(-1, -1, -1, side)
            enlarged = interpolate(basis, size=(full, full), mode="bicubic", align_corners=False)
            self._resizing[key] = area_resize(enlarged, new_side)[:, 0, :, 0].T.contiguous()
        return self._resizing[key]


def _factors(module: Any, q: Ball, k: Ball, v: Ball) -> tuple[Ball, Ball, Ball]:
    """Queries, keys and values as they are compared and averaged, so that logits are plain products."""
    if not isinstance(module, CosineLogits):
        return balls.scaled(q, q.centre.shape[-1] ** -0.5), k, v
    tau = module.tau.double()[:, None]
    q, k = balls.unit(q), balls.unit(balls.rounded(k.centre - module.centre[:, None].double(), k.radius))
    return balls.rounded(tau[..., None] * q.centre, tau * q.radius), k, balls.unit(v) if module.unit_values else v


def _tokens(ball: Ball, part: slice) -> Ball:
    return Ball(ball.centre[..., part, :], ball.radius[..., part])
