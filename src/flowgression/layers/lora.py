"""Low-rank adapters (LoRA; Hu et al., arXiv 2106.09685): W x + s B A x with W frozen and A, B of rank r.

Letters: r rank, s = alpha / r, W [out, in], A [r, in], B [out, r]. A layer keeps the names of its weights, so that
weights without adapters load as before; A and B are beside them as `lora_A` and `lora_B`. The table of the labels has
an adapter of full rank, `lora_rows`: E + s R, so that new classes can be learned.
"""

import math
from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import embedding, linear

from flowgression.errors import InputError

SUFFIXES = (".lora_A", ".lora_B")  # of a linear layer
ROWS = ".lora_rows"  # of an embedding


class LoRALinear(nn.Linear):
    """A linear layer with an adapter.

    Args:
        layer: whose weight and bias are taken over; they are frozen.
        rank: r >= 1; at most the layer's own rank is used.
        alpha: s = alpha / rank.
    """

    def __init__(self, layer: nn.Linear, rank: int, alpha: float):
        super().__init__(layer.in_features, layer.out_features, layer.bias is not None, device="meta")
        self.weight, self.bias = layer.weight, layer.bias
        self.requires_grad_(False)
        self.scale = alpha / rank
        r = min(rank, layer.in_features, layer.out_features)
        self.lora_A = nn.Parameter(layer.weight.new_empty(r, layer.in_features))
        self.lora_B = nn.Parameter(layer.weight.new_zeros(layer.out_features, r))  # the start is the layer as it was
        nn.init.kaiming_uniform_(self.lora_A, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x) + self.scale * linear(linear(x, self.lora_A), self.lora_B)


class LoRAEmbedding(nn.Embedding):
    """An embedding E [n, D] with an adapter R of the same shape: rows of E + s R.

    Args:
        table: whose weight is taken over; it is frozen.
        scale: s.
    """

    def __init__(self, table: nn.Embedding, scale: float):
        super().__init__(table.num_embeddings, table.embedding_dim, device="meta")
        self.weight = table.weight
        self.requires_grad_(False)
        self.scale = scale
        self.lora_rows = nn.Parameter(torch.zeros_like(table.weight))

    def forward(self, input: Tensor) -> Tensor:
        return super().forward(input) + self.scale * embedding(input, self.lora_rows)


def add_lora(model: nn.Module, rank: int, alpha: float) -> None:
    """Freeze `model` and give adapters to the linear layers of its blocks (the members of its ModuleLists) and to its
    table of labels, in place.

    Raises:
        InputError: rank < 1, or a model without such layers.
    """
    if rank < 1:
        raise InputError(f"the rank of an adapter must be 1 or more, not {rank}.")
    model.requires_grad_(False)
    lists = [name for name, part in model.named_modules() if isinstance(part, nn.ModuleList)]
    names = [name for name, part in model.named_modules() if type(part) is nn.Linear]
    names = [name for name in names if any(name.startswith(f"{each}.") for each in lists)]
    if not names:
        raise InputError(f"a {type(model).__name__} has no linear layers in blocks that could be adapted.")
    for name in names:
        owner, _, last = name.rpartition(".")
        setattr(model.get_submodule(owner), last, LoRALinear(model.get_submodule(name), rank, alpha))  # type: ignore
    table = getattr(model, "label_table", "").removesuffix(".weight")
    if table:
        owner, _, last = table.rpartition(".")
        setattr(model.get_submodule(owner), last, LoRAEmbedding(model.get_submodule(table), alpha / rank))  # type: ignore


def has_lora(model: nn.Module) -> bool:
    """Whether a layer of `model` has an adapter."""
    return any(isinstance(part, LoRALinear) for part in model.modules())


def lora_tensors(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those of the tensors of a state dict that belong to adapters."""
    return {name: tensor for name, tensor in tensors.items() if name.endswith((*SUFFIXES, ROWS))}


def without_lora(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Those that do not."""
    return {name: tensor for name, tensor in tensors.items() if not name.endswith((*SUFFIXES, ROWS))}


def lora_scale(model: nn.Module) -> float:
    """s of the adapters of `model`, which is one for all; 0 for a model without."""
    return next((part.scale for part in model.modules() if isinstance(part, LoRALinear)), 0.0)


@torch.no_grad()
def merge_tensors(tensors: Mapping[str, Tensor], adapters: Mapping[str, Tensor], scale: float) -> dict[str, Tensor]:
    """State dict of the model without adapters whose weights are W + s B A (of the labels E + s R), computed in float64
    and rounded once.

    Args:
        tensors: the weights W and all else; adapters among them are left out.
        adapters: as `lora_tensors` gives them.

    Raises:
        InputError: an adapter for a layer that the model does not have, or of another shape.
    """
    merged = without_lora(tensors)
    for name in sorted({name.rpartition(".")[0] for name in adapters}):
        weight, rows = merged.get(f"{name}.weight"), adapters.get(name + ROWS)
        a, b = (adapters.get(name + suffix) for suffix in SUFFIXES)
        if weight is None or (rows is None and (a is None or b is None)):
            raise InputError(f"the adapter of {name} fits no layer of this model; give the model it was made for.")
        change = rows.cpu().double() if rows is not None else _product(name, a, b)
        if change.shape != weight.shape:
            found, expected = tuple(change.shape), tuple(weight.shape)
            raise InputError(f"the adapter of {name} is for weights {found}, but this model's are {expected}.")
        merged[f"{name}.weight"] = (weight.cpu().double() + scale * change).to(weight.device, weight.dtype)
    return merged


def _product(name: str, a: Any, b: Any) -> Tensor:
    """B A in float64."""
    if a.ndim != 2 or b.ndim != 2 or b.shape[1] != a.shape[0]:
        shapes = f"{tuple(b.shape)} and {tuple(a.shape)}"
        raise InputError(f"the adapter of {name} has factors {shapes}, which have no product; copy it again.")
    return b.cpu().double() @ a.cpu().double()


def merged_model(model: Any) -> Any:
    """A model of diffusers without adapters that computes what `model` computes, up to floating-point error."""
    if not has_lora(model):
        return model
    tensors = model.state_dict()
    copy = type(model).from_config(model.config)
    copy.load_state_dict(merge_tensors(tensors, lora_tensors(tensors), lora_scale(model)))
    device = next(model.parameters()).device
    return copy.to(device).train(model.training).requires_grad_(False)
