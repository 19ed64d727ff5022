"""FlowAR and HOFAR as the compiler of circuits reads them: sizes and float64 arrays, as in `circuits.flowar_spec`.

N: steps. What depends on the class or on the time alone (modulations of the transformer, embeddings of times) is
computed here, in float64, and becomes a constant.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression.errors import InputError
from flowgression.families.arrays import as_array, linear_arrays
from flowgression.families.flowar.approximated import check_one_polynomial
from flowgression.families.flowar.flow_head import TIME_STEPS
from flowgression.families.flowar.model import FLOW_HEAD_WIDTH, FlowAR
from flowgression.families.flowar.presets import preset_config
from flowgression.families.flowar.scales import next_input
from flowgression.flow.guidance import Guidance
from flowgression.layers.bounded_attention import CosineLogits
from flowgression.layers.lowrank_attention import ApproximatedAttention
from flowgression.layers.rotary import rotary_angles
from flowgression.ops.lowrank import minimax_exp

LINEAR = {"qkv": "attn.qkv", "proj": "attn.proj", "gate": "mlp.gate", "value": "mlp.value", "out": "mlp.out"}
SOLVERS = ("euler", "taylor")
"""Steps that compile, by how many derivatives of the flow they read."""


def describe(
    model: FlowAR, steps: int | Sequence[float], guidance: tuple[float, tuple[float, float]], solver: str | None
) -> dict[str, Any]:
    """The keywords of `circuits.flowar_spec.FlowARSpec` for a model.

    Args:
        steps: of equal length at each scale, or their times, rising from 0 (noise) to 1 (data).
        guidance: scale and interval (0 noise, 1 data), as in `families.flowar.sampling.sample`.
        solver: "euler", or for a HOFAR also "taylor"; None: the one that reads all derivatives the model predicts.

    Raises:
        InputError: guidance by a model without a null label; a solver that does not compile, or that reads more
            derivatives than the model predicts; a model of average velocities.
    """
    config, (scale, (first, last)) = model.config, guidance
    Guidance(*guidance).check_null_label(config.class_dropout_prob)
    if config.get("average_velocity", False):
        raise InputError("a model of average velocities has no circuit: only velocities at a time are lowered.")
    check_one_polynomial(model, "the compiler of circuits")
    times = _equal_steps(steps) if isinstance(steps, int) else tuple(map(float, steps))
    derivatives = _derivatives(model, solver)
    blocks: list[Any] = [*model.encoder_blocks, *model.decoder_blocks]  # modules are Any: nn.Module types them loosely
    head: Any = model.flow_head
    arrays = _tables(model)
    for i, block in enumerate(blocks):
        arrays |= _block(block, f"block{i}")
        condition = model.class_embed.weight.double()
        arrays[f"block{i}.modulation"] = as_array(_linear_after_silu(block.modulation[1], condition))
    arrays |= linear_arrays(model.input_proj, "input") | linear_arrays(model.decoder_proj, "decoder_proj")
    for prefix, each in zip(("", "acceleration."), model.flow_heads[:derivatives], strict=False):
        arrays |= {f"{prefix}{name}": array for name, array in _flow_head(each, config, times).items()}
    return _sizes(config, head.blocks[0].attn.num_heads) | {
        "scales": tuple(model.scales),
        "channels": config.in_channels,
        "num_classes": config.num_classes + 1,
        "times": times,
        "arrays": arrays,
        "patch_size": config.patch_size,
        "bounded": config.attention == "bounded",
        "unit_values": _unit_values(model),
        "approximation": _approximation(model),
        "guidance_scale": float(scale),
        "guidance_interval": (float(first), float(last)),
        "accelerated": derivatives == 2,
    }


def published(preset: str, steps: int, guidance: tuple[float, tuple[float, float]]) -> dict[str, Any]:
    """The keywords of a published size at 256 px ("S", "fast-L"), without arrays."""
    config, (scale, (first, last)) = preset_config(preset), guidance
    heads = config.get("flow_num_heads") or config["flow_width"] // FLOW_HEAD_WIDTH
    return _sizes(config, heads) | {
        "scales": (1, 2, 4, 8, 16),
        "channels": 16,
        "num_classes": 1001,
        "times": _equal_steps(steps),
        "guidance_scale": scale,
        "guidance_interval": (first, last),
    }


def _equal_steps(count: int) -> tuple[float, ...]:
    return tuple(np.linspace(0, 1, count + 1).tolist())


def _derivatives(model: Any, solver: str | None) -> int:
    """How many derivatives of the flow the solver's steps read; None: as many as the model predicts."""
    known = SOLVERS[: len(model.flow_heads)]
    if solver is None:
        return len(known)
    if solver not in known:
        listed = " or ".join(map(repr, known))
        raise InputError(f"solver is {solver!r}; a circuit of a {type(model).__name__} is compiled for {listed}.")
    return known.index(solver) + 1


def _sizes(config: Mapping[str, Any], flow_num_heads: int) -> dict[str, Any]:
    """What a model's configuration and a preset name alike."""
    same = ("num_heads", "encoder_depth", "decoder_depth", "flow_width", "flow_depth")
    sizes = {"width": config["hidden_size"], "flow_num_heads": flow_num_heads} | {name: config[name] for name in same}
    lowrank = config.get("attention") == "lowrank"
    polynomial = minimax_exp(config["attention_degree"], float(config["attention_max_tau"])) if lowrank else None
    return sizes | {
        "cross_attention": bool(config["cross_attention"]),
        "polynomial_coefficients": polynomial and polynomial.coefficients,
    }


def _flow_head(head: Any, config: Any, times: Sequence[float]) -> dict[str, np.ndarray]:
    """The arrays of one flow head."""
    time = _time_embeddings(head, times)
    arrays = {"time": as_array(time)}
    for i, block in enumerate(head.blocks):
        arrays |= _block(block, f"flow{i}")
        if config.cross_attention:
            arrays |= _cross(block, f"flow{i}", time.double())
        else:
            arrays |= linear_arrays(block.modulation[1], f"flow{i}.modulation")
    parts = {"condition": head.cond_embed, "flow_input": head.input_proj}
    parts |= {"final": head.final_modulation[1], "output": head.output_proj}
    for name, module in parts.items():
        arrays |= linear_arrays(module, name)
    return arrays


def _tables(model: FlowAR) -> dict[str, np.ndarray]:
    tables = {"class_embed": model.class_embed.weight}
    for name in ("input_norm", "encoder_norm", "decoder_norm"):
        tables[name] = getattr(model, name).weight
    for name in ("encoder_position", "decoder_position", "semantics_position"):
        tables[name] = getattr(model, name)[0]
    arrays = {name: as_array(table) for name, table in tables.items()}
    arrays["rotation"] = _rotations(model.scales, model.config.hidden_size // model.config.num_heads)
    head: Any = model.flow_head
    heads = head.blocks[0].attn.num_heads
    arrays["flow_rotation"] = _rotations(model.scales, model.config.flow_width // heads)
    for k in range(1, len(model.scales)):
        arrays[f"resample{k}"] = _resampling(model, k)
    return arrays


def _time_embeddings(head: Any, times: Sequence[float]) -> Tensor:
    """[N, W]: the embedding of each step's starting time, turned in float64 and rounded in float32, as in sampling."""
    starts = torch.tensor(times[:-1], dtype=torch.float64)
    with torch.no_grad():
        return head.time_embed(torch.floor(TIME_STEPS * (1 - starts).float()))


def _rotations(scales: Sequence[int], head_size: int) -> np.ndarray:
    angles = np.concatenate([as_array(rotary_angles(side, scales[-1], head_size)) for side in scales])
    cos, sin = np.cos(angles[:, ::2]), np.sin(angles[:, ::2])
    return np.stack([np.stack([cos, -sin], -1), np.stack([sin, cos], -1)], -2)


def _resampling(model: FlowAR, k: int) -> np.ndarray:
    """[(s_{k+1} P)^2, (s_k P)^2]: what `next_input` does to each unit map of scale k."""
    coarse, fine = (model.scales[i] * model.config.patch_size for i in (k - 1, k))
    units = torch.eye(coarse * coarse, dtype=torch.float64).reshape(-1, 1, coarse, coarse)
    return as_array(next_input(units, model.config.sample_size, fine)).reshape(coarse * coarse, fine * fine).T


def _block(block: Any, name: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, path in LINEAR.items():
        arrays |= linear_arrays(block.get_submodule(path), f"{name}.{part}")
    return arrays | _logits(block.attn.attention, name)


def _cross(block: Any, name: str, time: Tensor) -> dict[str, np.ndarray]:
    """What a block with cross-attention has besides; time [N, W], the embedded times of the steps."""
    cross = block.cross_attn
    arrays = linear_arrays(block.mlp_modulation[1], f"{name}.modulation")
    arrays |= linear_arrays(cross.proj, f"{name}.cross.proj")
    arrays[f"{name}.time_modulation"] = as_array(_linear_after_silu(block.attn_modulation[1], time))
    tables = {"cross_norm": block.cross_norm, "semantics_norm": block.semantics_norm}
    tables |= {"cross.q.w": cross.q, "cross.kv.w": cross.kv}
    arrays |= {f"{name}.{key}": as_array(module.weight) for key, module in tables.items()}
    return arrays | _logits(cross.attention, f"{name}.cross")


def _logits(attention: Any, name: str) -> dict[str, np.ndarray]:
    """tau and the key mean of bounded logits, and the shift of what `approximate` put in; nothing for softmax."""
    arrays = {}
    if isinstance(attention, ApproximatedAttention):
        arrays[f"{name}.shift"] = as_array(attention.shift)
        attention = attention.exact
    if isinstance(attention, CosineLogits):
        arrays |= {f"{name}.tau": as_array(attention.tau), f"{name}.centre": as_array(attention.centre)}
    return arrays


def _attentions(model: FlowAR) -> dict[str, Any]:
    """By the spec's name, every attention of the transformer and of the first flow head."""
    blocks: list[Any] = [*model.encoder_blocks, *model.decoder_blocks]
    head: Any = model.flow_head
    found = {f"block{i}": block.attn.attention for i, block in enumerate(blocks)}
    for i, block in enumerate(head.blocks):
        found[f"flow{i}"] = block.attn.attention
        if model.config.cross_attention:
            found[f"flow{i}.cross"] = block.cross_attn.attention
    return found


def _approximation(model: FlowAR) -> dict[str, tuple[float, ...]]:
    """Coefficients of the polynomials that `approximate` put in place of exp."""
    attentions = _attentions(model).items()
    return {name: each.coefficients for name, each in attentions if isinstance(each, ApproximatedAttention)}


def _unit_values(model: FlowAR) -> bool:
    """Whether values are normalised to length 1, by all attentions or by none."""
    exact = [getattr(each, "exact", each) for each in _attentions(model).values()]
    return isinstance(exact[0], CosineLogits) and exact[0].unit_values


def _linear_after_silu(module: Any, x: Tensor) -> Tensor:
    activated = torch.nn.functional.silu(x)
    return torch.nn.functional.linear(activated, module.weight.double(), module.bias.double())
