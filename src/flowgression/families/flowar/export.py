"""FlowAR as two graphs: the transformer over all scales at once, and the flow head for the tokens of any one scale.

B: images, C: channels, P: patch size, K: scales of s_k^2 tokens, T: all tokens, D: width, N: tokens of one scale.
"""

import copy
from types import MethodType
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import silu

from flowgression.errors import InputError
from flowgression.export.graph import Exported, Graph
from flowgression.families.flowar.scales import next_input
from flowgression.layers.lowrank_attention import PolynomialForm
from flowgression.layers.modulation import modulate
from flowgression.layers.patches import patchify
from flowgression.layers.rotary import Rotation
from flowgression.ops.lowrank.minimax import horner
from flowgression.ops.lowrank.naive import visible_keys
from flowgression.sampling.request import predicts_averages


def exported(model: Any) -> Exported:
    """The graphs of a FlowAR. Raises InputError for one of average velocities."""
    if predicts_averages(model):
        raise InputError("a FlowAR of average velocities is not exported: its graphs have no end of an interval.")
    config, scales = model.config, model.scales
    sides = [side * config.patch_size for side in scales]
    maps = {f"map{k + 1}": torch.randn(2, config.in_channels, side, side) for k, side in enumerate(sides[:-1])}
    labels = {"class_labels": torch.tensor([0, config.num_classes])}
    tokens, channels = scales[-1] ** 2, config.in_channels * config.patch_size**2
    head = {
        "tokens": torch.randn(2, tokens, channels),
        "time_step": torch.tensor([300.0, 960.0]),
        "semantics": torch.randn(2, tokens, config.hidden_size),
        "positions": torch.arange(tokens) + sum(side**2 for side in scales[:-1]),
    }
    varying = {"tokens": {1: "tokens"}, "semantics": {1: "tokens"}, "positions": {0: "tokens"}}
    graphs = {
        "transformer": Graph(Transformer(model), labels | maps, ["semantics"]),
        "head": Graph(Head(model), head, ["velocity"], frozenset({"positions"}), varying),
    }
    return Exported(graphs, facts={"scales": list(scales), "patch_size": config.patch_size})


class Transformer(nn.Module):
    """class_labels [B] and the maps of the first K - 1 scales [B,C,s_k P,s_k P] -> semantic maps of all, [B,T,D].

    A scale reads coarser ones alone, so maps that are not drawn yet may hold anything; zeros, say.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.model = with_dense_polynomials(model)
        patch, full = model.config.patch_size, model.config.sample_size
        for k, (before, side) in enumerate(zip(model.scales, model.scales[1:], strict=False)):
            pixels = before * patch
            basis = torch.eye(pixels**2).reshape(pixels**2, 1, pixels, pixels)
            self.register_buffer(f"resize{k}", next_input(basis, full, side * patch).flatten(1))

    def forward(self, class_labels: Tensor, *maps: Tensor) -> Tensor:
        model = self.model
        condition = model.class_embed(class_labels)[:, None]
        inputs = [condition.expand(-1, model.scales[0] ** 2, -1)]
        for k, each in enumerate(maps):
            side = model.scales[k + 1] * model.config.patch_size
            resized = (each.flatten(2) @ getattr(self, f"resize{k}")).unflatten(-1, (side, side))
            inputs.append(model.input_proj(patchify(resized, model.config.patch_size)))
        conditions = [silu(condition)] * len(model._blocks())
        return model._transform(torch.cat(inputs, dim=1), conditions, model.scales, None)[0]


class Head(nn.Module):
    """tokens [B,N,P P C], time_step [B], semantics [B,N,D] and positions [N] -> velocity [B,N,P P C].

    time_step: floor(1000 (1 - t)), 1 - t rounded to float32 before and the product after: what the head sees of t.
    positions: the numbers of the scale's tokens among all T.
    """

    def __init__(self, model: Any):
        super().__init__()
        self.head = with_dense_polynomials(model).flow_head

    def forward(self, tokens: Tensor, time_step: Tensor, semantics: Tensor, positions: Tensor) -> Tensor:
        head = self.head
        rotation = Rotation(head.rotary.cos[positions], head.rotary.sin[positions])
        time = head.time_embed(time_step[:, None])
        condition = silu(time + head.cond_embed(semantics))
        x = head.input_proj(tokens)
        for block in head.blocks:
            x = block(x, silu(time), condition, semantics, rotation, [tokens.shape[1]])
        shift, scale = head.final_modulation.of_activated(condition)
        return -head.output_proj(modulate(head.final_norm(x), shift, 1 + scale))


def with_dense_polynomials(model: Any) -> Any:
    """A copy whose low-rank attentions compute the matrix of logits: the same function, in operations ONNX has."""
    copied = copy.deepcopy(model)
    for module in copied.modules():
        if isinstance(module, PolynomialForm):
            module._attend = MethodType(_dense, module)  # type: ignore[method-assign]
    return copied


def _dense(self: Any, q: Tensor, k: Tensor, v: Tensor, blocks: Any = None) -> Tensor:
    weights = horner(self.coefficients, q @ k.mT)
    if blocks is not None:
        weights = weights * visible_keys(blocks, 0, q.device)
    return weights @ v / weights.sum(-1, keepdim=True)
