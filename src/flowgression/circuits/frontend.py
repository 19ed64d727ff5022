"""Reads a model of this library into the neutral spec. The only file of the compiler that sees PyTorch."""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from flowgression.circuits.dit_spec import DiTSpec
from flowgression.circuits.spec import ACCELERATION, FlowARSpec, rotations
from flowgression.errors import InputError
from flowgression.families.arflow.model import ARFlow
from flowgression.families.flowar.flow_head import TIME_STEPS
from flowgression.families.flowar.model import FLOW_HEAD_WIDTH, FlowAR
from flowgression.families.flowar.presets import preset_config
from flowgression.families.flowar.scales import next_input
from flowgression.families.hofar.model import HOFAR
from flowgression.families.sit.model import SiT
from flowgression.layers.bounded_attention import CosineLogits
from flowgression.layers.lowrank_attention import ApproximatedAttention
from flowgression.layers.rotary import rotary_angles
from flowgression.layers.self_attention import SelfAttention
from flowgression.ops.lowrank import minimax_exp

LINEAR = {"qkv": "attn.qkv", "proj": "attn.proj", "gate": "mlp.gate", "value": "mlp.value", "out": "mlp.out"}


SOLVERS = ("euler", "taylor")
"""Steps that compile, by how many derivatives of the flow they read."""


def read_flowar(
    model: FlowAR,
    times: Sequence[float],
    guidance_scale: float = 1.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    solver: str | None = None,
) -> FlowARSpec:
    """The spec that samples like `model` on the falling grid `times` from 1 to 0, with guidance as in
    `families.flowar.sampling.sample`.

    solver: "euler", or for a HOFAR also "taylor"; None: taylor for a HOFAR, euler for all others.

    What depends on the class or on the time alone (modulations of the transformer, time embeddings) is computed
    here, in float64, and becomes a constant.

    Raises:
        InputError: guidance by a model that was trained without a null label; a solver that the model cannot use.
    """
    config = model.config
    check_guidance(config, guidance_scale)
    derivatives = check_solver(model, solver)
    blocks: list[Any] = [*model.encoder_blocks, *model.decoder_blocks]  # modules are Any: nn.Module types them loosely
    head: Any = model.flow_head
    arrays = _tables(model)
    for i, block in enumerate(blocks):
        arrays |= _block(block, f"block{i}")
        condition = model.class_embed.weight.double()
        arrays[f"block{i}.modulation"] = _array(_linear_after_silu(block.modulation[1], condition))
    arrays |= _linear(model.input_proj, "input") | _linear(model.decoder_proj, "decoder_proj")
    for prefix, each in zip(("", ACCELERATION), model.flow_heads[:derivatives], strict=False):
        arrays |= {f"{prefix}{name}": array for name, array in _flow_head(each, config, times).items()}
    return FlowARSpec(
        **_sizes(config, head.blocks[0].attn.num_heads),
        scales=tuple(model.scales),
        channels=config.in_channels,
        num_classes=config.num_classes + 1,
        times=tuple(float(t) for t in times),
        arrays=arrays,
        patch_size=config.patch_size,
        bounded=config.attention == "bounded",
        unit_values=_unit_values(model),
        approximation=_approximation(model),
        guidance_scale=float(guidance_scale),
        guidance_interval=turned(guidance_interval),
        accelerated=derivatives == 2,
    )


def check_solver(model: Any, solver: str | None) -> int:
    """How many derivatives of the flow the solver's steps read; None: as many as the model predicts.

    Raises:
        InputError: a solver that does not compile, or that reads more than the model predicts.
    """
    heads = len(getattr(model, "flow_heads", ("velocity",)))
    if solver is None:
        return heads
    if solver not in SOLVERS[:heads]:
        known = " or ".join(map(repr, SOLVERS[:heads]))
        raise InputError(f"solver is {solver!r}; a circuit of a {type(model).__name__} is compiled for {known}.")
    return SOLVERS.index(solver) + 1


def turned(interval: tuple[float, float]) -> tuple[float, float]:
    """An interval of times (0 noise, 1 data) as FlowAR's spec counts them, from 1 (noise) to 0."""
    first, last = interval
    return 1.0 - float(last), 1.0 - float(first)


def load_model(folder: Path) -> Any:
    """A trained FlowAR, HOFAR, SiT or ARFlow from its folder. Raises InputError for another kind of model."""
    with open(folder / "config.json") as file:
        found = json.load(file).get("_class_name")
    if found not in READERS:
        raise InputError(f"{folder} holds a {found}; circuits are compiled from {', '.join(READERS)}.")
    return READERS[found][0].from_pretrained(folder)


def read_model(model: Any, steps: int, **sampling: Any) -> Any:
    """The spec of any model of READERS, sampled in so many equal steps; guidance and solver as in `read_flowar`."""
    return READERS[type(model).__name__][1](model, steps, **sampling)


def _read_flowar(model: FlowAR, steps: int, **sampling: Any) -> FlowARSpec:
    return read_flowar(model, np.linspace(1, 0, steps + 1).tolist(), **sampling)


def preset_sizes(name: str, times: Sequence[float]) -> dict[str, Any]:
    """The sizes of a published FlowAR at 256 px ("flowar-s", "fastflowar-l", ...), as keywords of FlowARSpec."""
    fast, size = name.split("-")
    config = preset_config(("fast-" if fast.startswith("fast") else "") + size.upper())
    heads = config.get("flow_num_heads") or config["flow_width"] // FLOW_HEAD_WIDTH
    fixed = {"scales": (1, 2, 4, 8, 16), "channels": 16, "num_classes": 1001, "times": tuple(times)}
    return _sizes(config, heads) | fixed


def _sizes(config: Mapping[str, Any], flow_num_heads: int) -> dict[str, Any]:
    """What a model's configuration and a preset name alike, as keywords of FlowARSpec."""
    same = ("num_heads", "encoder_depth", "decoder_depth", "flow_width", "flow_depth")
    sizes = {"width": config["hidden_size"], "flow_num_heads": flow_num_heads} | {name: config[name] for name in same}
    lowrank = config.get("attention") == "lowrank"
    polynomial = exp_polynomial(config["attention_degree"], float(config["attention_max_tau"])) if lowrank else None
    return sizes | {"cross_attention": bool(config["cross_attention"]), "polynomial_coefficients": polynomial}


def check_guidance(config: Any, guidance_scale: float) -> None:
    """Raise InputError for guidance by a model that knows no null label."""
    if guidance_scale != 1.0 and config.class_dropout_prob == 0:
        raise InputError(
            f"guidance_scale is {guidance_scale}, but this model was trained without a null label "
            "(class_dropout_prob = 0); set guidance_scale=1."
        )


def exp_polynomial(degree: int, bound: float) -> tuple[float, ...]:
    """Coefficients, constant first, of the polynomial that FastFlowAR has in place of exp on [-bound, bound]."""
    return minimax_exp(degree, bound).coefficients


def _flow_head(head: Any, config: Any, times: Sequence[float]) -> dict[str, np.ndarray]:
    """The arrays of one flow head."""
    time = _time_embeddings(head, times)
    arrays = {"time": _array(time)}
    for i, block in enumerate(head.blocks):
        arrays |= _block(block, f"flow{i}")
        if config.cross_attention:
            arrays |= _cross(block, f"flow{i}", time.double())
        else:
            arrays |= _linear(block.modulation[1], f"flow{i}.modulation")
    parts = {"condition": head.cond_embed, "flow_input": head.input_proj}
    parts |= {"final": head.final_modulation[1], "output": head.output_proj}
    for name, module in parts.items():
        arrays |= _linear(module, name)
    return arrays


def _tables(model: FlowAR) -> dict[str, np.ndarray]:
    tables = {"class_embed": model.class_embed.weight}
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


def _time_embeddings(head: Any, times: Sequence[float]) -> Tensor:
    """[N, W]: the embedding of each step's starting time, which is float32 where the samplers round 1000 t down."""
    starts = torch.tensor([float(t) for t in times][:-1], dtype=torch.float32)
    with torch.no_grad():
        return head.time_embed(torch.floor(TIME_STEPS * starts))


def _rotations(scales: Sequence[int], head_size: int) -> np.ndarray:
    angles = np.concatenate([_array(rotary_angles(side, scales[-1], head_size)) for side in scales])
    return rotations(angles[:, ::2])


def _resampling(model: FlowAR, k: int) -> np.ndarray:
    """[(s_{k+1} P)^2, (s_k P)^2]: what `next_input` does to each unit map of scale k."""
    coarse, fine = (model.scales[i] * model.config.patch_size for i in (k - 1, k))
    units = torch.eye(coarse * coarse, dtype=torch.float64).reshape(-1, 1, coarse, coarse)
    return _array(next_input(units, model.config.sample_size, fine)).reshape(coarse * coarse, fine * fine).T


def _block(block: Any, name: str) -> dict[str, np.ndarray]:
    arrays: dict[str, np.ndarray] = {}
    for part, path in LINEAR.items():
        arrays |= _linear(block.get_submodule(path), f"{name}.{part}")
    return arrays | _logits(block.attn.attention, name)


def _cross(block: Any, name: str, time: Tensor) -> dict[str, np.ndarray]:
    """What a block with cross-attention has besides; time [N, W], the embedded times of the steps."""
    cross = block.cross_attn
    arrays = _linear(block.mlp_modulation[1], f"{name}.modulation") | _linear(cross.proj, f"{name}.cross.proj")
    arrays[f"{name}.time_modulation"] = _array(_linear_after_silu(block.attn_modulation[1], time))
    tables = {"cross_norm": block.cross_norm, "semantics_norm": block.semantics_norm}
    tables |= {"cross.q.w": cross.q, "cross.kv.w": cross.kv}
    arrays |= {f"{name}.{key}": _array(module.weight) for key, module in tables.items()}
    return arrays | _logits(cross.attention, f"{name}.cross")


def _logits(attention: Any, name: str) -> dict[str, np.ndarray]:
    """tau and the key mean of bounded logits, and the shift of what `approximate` put in; nothing for softmax."""
    arrays = {}
    if isinstance(attention, ApproximatedAttention):
        arrays[f"{name}.shift"] = _array(attention.shift)
        attention = attention.exact
    if isinstance(attention, CosineLogits):
        arrays |= {f"{name}.tau": _array(attention.tau), f"{name}.centre": _array(attention.centre)}
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


def _linear(module: Any, name: str) -> dict[str, np.ndarray]:
    bias = torch.zeros(module.out_features) if module.bias is None else module.bias
    return {f"{name}.w": _array(module.weight), f"{name}.b": _array(bias)}


def _linear_after_silu(module: Any, x: Tensor) -> Tensor:
    activated = torch.nn.functional.silu(x)
    return torch.nn.functional.linear(activated, module.weight.double(), module.bias.double())


def _array(tensor: Tensor) -> np.ndarray:
    return tensor.detach().cpu().double().numpy()


# ---- SiT and ARFlow ----


def read_dit(
    model: SiT | ARFlow,
    times: Sequence[float],
    guidance_scale: float = 1.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
) -> DiTSpec:
    """The spec that samples like a SiT or ARFlow by Euler steps on the rising grid `times` from 0 to 1, with guidance
    of all channels. Time embeddings are computed here and become constants.

    Raises:
        InputError: guidance by a model that was trained without a null label.
    """
    config = model.config
    check_guidance(config, guidance_scale)
    if not config.get("decay", True):
        raise InputError("an ARFlow with decay=False has no circuit: only states that fade are lowered.")
    if config.get("prediction_type", "velocity") != "velocity":
        raise InputError("a model with prediction_type='sample' has no circuit: only predicted velocities are lowered.")
    starts = torch.tensor([float(t) for t in times][:-1], dtype=torch.float32)
    with torch.no_grad():
        time = model.t_embedder(starts)
    arrays = {"time": _array(time), "class_embed": _array(model.y_embedder.embedding_table.weight)}
    arrays["position"] = _array(model.pos_embed)[0]
    patch: Any = model.x_embedder.proj
    arrays["patch.w"] = _array(patch.weight.permute(0, 2, 3, 1).flatten(1))  # channels last, as in the final layer
    arrays["patch.b"] = _array(patch.bias)
    for i, block in enumerate(model.blocks):
        arrays |= _dit_block(block, f"block{i}")
    final: Any = model.final_layer
    arrays |= _linear(final.adaLN_modulation[1], "final_modulation")
    size, channels = config.patch_size, config.in_channels  # of the channels, the second half may be unused
    for key, value in _linear(final.linear, "final").items():
        arrays[key] = value.reshape(size * size, -1, *value.shape[1:])[:, :channels].reshape(-1, *value.shape[1:])
    return DiTSpec(
        grid=model.grid,
        patch_size=size,
        channels=channels,
        width=config.hidden_size,
        num_heads=config.num_heads,
        depth=config.depth,
        mlp_width=int(config.hidden_size * config.mlp_ratio),
        num_classes=config.num_classes + 1,
        times=tuple(float(t) for t in times),
        context=config.get("context"),
        arrays=arrays,
        guidance_scale=float(guidance_scale),
        guidance_interval=(float(guidance_interval[0]), float(guidance_interval[1])),
    )


def _dit_block(block: Any, name: str) -> dict[str, np.ndarray]:
    attention = block.attn
    arrays = _linear(block.adaLN_modulation[1], f"{name}.modulation")
    arrays |= _linear(block.mlp.fc1, f"{name}.fc1") | _linear(block.mlp.fc2, f"{name}.fc2")
    if isinstance(attention, SelfAttention):
        return arrays | _linear(attention.qkv, f"{name}.qkv") | _linear(attention.proj, f"{name}.proj")
    for part in ("q", "k", "v", "g", "gt", "out"):
        arrays[f"{name}.{part}.w"] = _array(attention.get_submodule(f"{part}_proj").weight)
    return arrays


def _read_dit(model: SiT | ARFlow, steps: int, solver: str | None = None, **guidance: Any) -> DiTSpec:
    check_solver(model, solver)
    return read_dit(model, np.linspace(0, 1, steps + 1).tolist(), **guidance)


READERS: dict[str, tuple[Any, Callable[..., Any]]] = {
    "FlowAR": (FlowAR, _read_flowar),
    "HOFAR": (HOFAR, _read_flowar),
    "SiT": (SiT, _read_dit),
    "ARFlow": (ARFlow, _read_dit),
}
"""Class name of a model -> the class, and its reader (model, steps, guidance and solver)."""
