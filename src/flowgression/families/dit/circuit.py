"""SiT and ARFlow as the compiler of circuits reads them: sizes and float64 arrays, named as in `circuits.dit_spec`.

Embeddings of times are computed here and become constants.
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch

from flowgression.errors import InputError
from flowgression.families.arrays import as_array, linear_arrays
from flowgression.flow.guidance import Guidance
from flowgression.layers.self_attention import SelfAttention

SOLVER = "euler"
"""Whose steps compile."""


def describe(
    model: Any, steps: int | Sequence[float], guidance: tuple[float, tuple[float, float]], solver: str | None
) -> dict[str, Any]:
    """The keywords of `circuits.dit_spec.DiTSpec` for a model.

    Args:
        steps: of equal length, or their times, rising from 0 (noise) to 1 (data).
        guidance: of all channels: scale and interval. solver: "euler", which None stands for.

    Raises:
        InputError: another solver, guidance by a model without a null label, or an ARFlow whose states do not fade.
    """
    config = model.config
    Guidance(*guidance).check_null_label(config.class_dropout_prob)
    if solver not in (None, SOLVER):
        raise InputError(f"solver is {solver!r}; a circuit of a {type(model).__name__} is compiled for {SOLVER!r}.")
    if not config.get("decay", True):
        raise InputError("an ARFlow with decay=False has no circuit: only states that fade are lowered.")
    if config.get("average_velocity", False):
        raise InputError("a model of average velocities has no circuit: only velocities at a time are lowered.")
    if config.get("prediction_type", "velocity") != "velocity":
        raise InputError("a model with prediction_type='sample' has no circuit: only predicted velocities are lowered.")
    if config.get("refine_width", 0):
        raise InputError("a model with refine_width > 0 has no circuit: its convolutions are not lowered.")
    times = tuple(np.linspace(0, 1, steps + 1).tolist() if isinstance(steps, int) else map(float, steps))
    starts = torch.tensor(times[:-1], dtype=torch.float32)
    with torch.no_grad():
        time = model.t_embedder(starts)
    arrays = {"time": as_array(time), "class_embed": as_array(model.y_embedder.embedding_table.weight)}
    arrays["position"] = as_array(model.pos_embed)[0]
    patch: Any = model.x_embedder.proj
    arrays["patch.w"] = as_array(patch.weight.permute(0, 2, 3, 1).flatten(1))  # channels last, as in the final layer
    arrays["patch.b"] = as_array(patch.bias)
    for i, block in enumerate(model.blocks):
        arrays |= _dit_block(block, f"block{i}")
    final: Any = model.final_layer
    arrays |= linear_arrays(final.adaLN_modulation[1], "final_modulation")
    size, channels = config.patch_size, config.in_channels  # of the channels, the second half may be unused
    for key, value in linear_arrays(final.linear, "final").items():
        arrays[key] = value.reshape(size * size, -1, *value.shape[1:])[:, :channels].reshape(-1, *value.shape[1:])
    return {
        "grid": model.grid,
        "patch_size": size,
        "channels": channels,
        "width": config.hidden_size,
        "num_heads": config.num_heads,
        "depth": config.depth,
        "mlp_width": int(config.hidden_size * config.mlp_ratio),
        "num_classes": config.num_classes + 1,
        "times": times,
        "context": config.get("context"),
        "arrays": arrays,
        "guidance_scale": float(guidance[0]),
        "guidance_interval": (float(guidance[1][0]), float(guidance[1][1])),
    }


def _dit_block(block: Any, name: str) -> dict[str, np.ndarray]:
    attention = block.attn
    arrays = linear_arrays(block.adaLN_modulation[1], f"{name}.modulation")
    arrays |= linear_arrays(block.mlp.fc1, f"{name}.fc1") | linear_arrays(block.mlp.fc2, f"{name}.fc2")
    if isinstance(attention, SelfAttention):
        return arrays | linear_arrays(attention.qkv, f"{name}.qkv") | linear_arrays(attention.proj, f"{name}.proj")
    for part in ("q", "k", "v", "g", "gt", "out"):
        arrays[f"{name}.{part}.w"] = as_array(attention.get_submodule(f"{part}_proj").weight)
    return arrays
