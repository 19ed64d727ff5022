"""Reads a FlowAR model of this library into the neutral spec. The only file of the compiler that sees PyTorch."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression.circuits.spec import FlowARSpec, rotations
from flowgression.errors import InputError
from flowgression.layers.rotary import rotary_angles
from flowgression.models.flowar.flow_head import TIME_STEPS
from flowgression.models.flowar.model import FlowAR
from flowgression.models.flowar.scales import next_input

LINEAR = {"qkv": "attn.qkv", "proj": "attn.proj", "gate": "mlp.gate", "value": "mlp.value", "out": "mlp.out"}


def read_flowar(model: FlowAR, times: Sequence[float]) -> FlowARSpec:
    """The spec that samples like `model` without guidance, by Euler steps on the falling grid `times` from 1 to 0.

    What depends on the class or on the time alone (modulations of the transformer, time embeddings) is computed
    here, in float64, and becomes a constant.

    Raises:
        InputError: cross-attention, low-rank attention or patches larger than 1, which are not compiled.
    """
    config = model.config
    if config.cross_attention:
        raise InputError("cross_attention is True; only flow heads with Spatial-adaLN blocks are compiled.")
    if config.attention != "exact":
        raise InputError(f"attention is {config.attention!r}; only models with attention 'exact' are compiled.")
    if config.patch_size != 1:
        raise InputError(f"patch_size is {config.patch_size}; only models with patch_size 1 are compiled.")
    blocks: list[Any] = [*model.encoder_blocks, *model.decoder_blocks]
    head: Any = model.flow_head  # modules are Any here: nn.Module types its children as Tensor | Module
    arrays = _tables(model, times)
    for i, block in enumerate(blocks):
        arrays |= _block(block, f"block{i}")
        condition = model.class_embed.weight.double()
        arrays[f"block{i}.modulation"] = _array(_linear_after_silu(block.modulation[1], condition))
    for i, block in enumerate(head.blocks):
        arrays |= _block(block, f"flow{i}") | _linear(block.modulation[1], f"flow{i}.modulation")
    parts: dict[str, Any] = {
        "input": model.input_proj,
        "decoder_proj": model.decoder_proj,
        "condition": head.cond_embed,
    }
    parts |= {"flow_input": head.input_proj, "final": head.final_modulation[1], "output": head.output_proj}
    for name, module in parts.items():
        arrays |= _linear(module, name)
    return FlowARSpec(
        scales=tuple(model.scales),
        channels=config.in_channels,
        width=config.hidden_size,
        num_heads=config.num_heads,
        encoder_depth=config.encoder_depth,
        decoder_depth=config.decoder_depth,
        flow_width=config.flow_width,
        flow_num_heads=head.blocks[0].attn.num_heads,
        flow_depth=config.flow_depth,
        num_classes=config.num_classes + 1,
        times=tuple(float(t) for t in times),
        arrays=arrays,
    )


def _tables(model: FlowAR, times: Sequence[float]) -> dict[str, np.ndarray]:
    tables = {"class_embed": model.class_embed.weight, "time": _time_embeddings(model, times)}
    for name in ("input_norm", "encoder_norm", "decoder_norm"):
        tables[name] = getattr(model, name).weight
    for name in ("encoder_position", "decoder_position", "semantics_position"):
        tables[name] = getattr(model, name)[0]
    arrays = {name: _array(table) for name, table in tables.items()}
    arrays["rotation"] = _rotations(model.scales, model.config.hidden_size // model.config.num_heads)
    head: Any = model.flow_head
    heads = head.blocks[0].attn.num_heads
    arrays["flow_rotation"] = _rotations(model.scales, model.config.flow_width // heads)
    for k in range(1, len(model.scales)):
        arrays[f"resample{k}"] = _resampling(model, k)
    return arrays


def _time_embeddings(model: FlowAR, times: Sequence[float]) -> Tensor:
    """[N, W]: the embedding of each step's starting time."""
    starts = torch.tensor(list(times)[:-1], dtype=torch.float64)
    with torch.no_grad():
        return model.flow_head.time_embed(torch.floor(TIME_STEPS * starts))


def _rotations(scales: Sequence[int], head_size: int) -> np.ndarray:
    angles = np.concatenate([_array(rotary_angles(side, scales[-1], head_size)) for side in scales])
    return rotations(angles[:, ::2])


def _resampling(model: FlowAR, k: int) -> np.ndarray:
    """[s_{k+1}^2, s_k^2]: what `next_input` does to each unit map of scale k."""
    coarse, fine = model.scales[k - 1], model.scales[k]
    units = torch.eye(coarse * coarse, dtype=torch.float64).reshape(-1, 1, coarse, coarse)
    return _array(next_input(units, model.config.sample_size, fine)).reshape(coarse * coarse, fine * fine).T


def _block(block: Any, name: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, path in LINEAR.items():
        arrays |= _linear(block.get_submodule(path), f"{name}.{part}")
    return arrays


def _linear(module: Any, name: str) -> dict[str, np.ndarray]:
    bias = torch.zeros(module.out_features) if module.bias is None else module.bias
    return {f"{name}.w": _array(module.weight), f"{name}.b": _array(bias)}


def _linear_after_silu(module: Any, x: Tensor) -> Tensor:
    activated = torch.nn.functional.silu(x)
    return torch.nn.functional.linear(activated, module.weight.double(), module.bias.double())


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()
