"""The calls that training and sampling make of each family: what has to be one graph.

A call is a module of tensors alone, so that torch.compile and torch.export both take it.

B: images (or sequences), k: a scale.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from flowgression.families.flowar.flow_head import ReadSemantics
from flowgression.families.flowar.outputs import FlowARCache
from flowgression.layers.lowrank_attention import LowRankState
from flowgression.ops.softmax import KeyValueCache
from flowgression.training import TimesConfig
from flowgression.training.randomness import StepRandomness
from tests.families.cases import FAMILY_CASES, SCALES, SIDE, FamilyCase

GRAPH_CASES = FAMILY_CASES | {
    "flowar with cross-attention": FamilyCase("flowar", {**SCALES, "cross_attention": True}),
    "flowar with bounded attention": FamilyCase("flowar", {**SCALES, "attention": "bounded"}),
}
BATCH = 3
_UNIFORM = TimesConfig()


@dataclass(frozen=True)
class Call:
    """A module, and its inputs as a function of a seed: other values of the same shapes. `loss`: it is trained on."""

    name: str
    module: nn.Module
    inputs: Callable[[int], tuple[Any, ...]]
    loss: bool = False


class _Drawn(StepRandomness):
    """`StepRandomness` with numbers that were drawn before: a graph holds no generator."""

    def __init__(self, normal: Tensor, uniform: list[Tensor]):
        self._normal, self._uniform = normal, uniform
        self._times, self._noise_order, self._clean = _UNIFORM, "falling", 0.0

    def normal(self, shape: Any) -> Tensor:
        return self._normal

    def uniform(self, shape: Any) -> Tensor:
        return self._uniform.pop(0)


class _Training(nn.Module):
    """The loss of a batch, by the objective that training calls."""

    def __init__(self, case: FamilyCase, model: nn.Module):
        super().__init__()
        self.model = model.train()
        self.objective = case.description.objective_function

    def forward(self, images: Tensor, class_labels: Tensor, normal: Tensor, *uniform: Tensor) -> Tensor:
        return self.objective(self.model, images, class_labels, _Drawn(normal, list(uniform))).loss


class _Velocity(nn.Module):
    """A step of ARFlow or SiT: the velocity, and where the model keeps one the state, out and in."""

    def __init__(self, model: nn.Module):
        super().__init__()
        self.model = model

    def forward(self, x: Tensor, t: Tensor, class_labels: Tensor, *state: Tensor) -> tuple[Tensor, ...]:
        output = self.model(x, t, class_labels, list(state)) if state else self.model(x, t, class_labels)
        return output.velocity, *getattr(output, "state", ())


class _Semantics(nn.Module):
    """`next_semantics` of scale k, its cache as the tensors that it holds."""

    def __init__(self, model: Any, k: int):
        super().__init__()
        self.model, self.k = model, k

    def forward(self, class_labels: Tensor, previous: Tensor | None, *memory: Tensor) -> tuple[Tensor, ...]:
        semantics, cache = self.model.next_semantics(previous, class_labels, self._cache(len(class_labels), memory))
        return semantics, *tensors_of(cache)

    def _cache(self, batch_size: int, memory: tuple[Tensor, ...]) -> FlowARCache:
        if self.model.config.attention == "lowrank":
            if not memory:
                return self.model.new_cache(batch_size)
            return FlowARCache(tuple(LowRankState(batch_size, sums) for sums in memory), self.k)
        filled = sum(side**2 for side in self.model.scales[: self.k])
        pairs = zip(memory[::2], memory[1::2], strict=True)
        return FlowARCache(tuple(KeyValueCache(*pair, filled) for pair in pairs), self.k)


def tensors_of(cache: FlowARCache) -> list[Tensor]:
    """What a cache holds: the sums of each block, or its keys and values."""
    held: list[Tensor | None] = []
    for layer in cache.layers:
        held += [layer.sums] if isinstance(layer, LowRankState) else [layer.keys, layer.values]
    return [each for each in held if each is not None]


class _Velocities(nn.Module):
    """The flow heads in one step at one scale, each on what it read of the semantic map."""

    def __init__(self, heads: tuple[nn.Module, ...]):
        super().__init__()
        self.heads = nn.ModuleList(heads)

    def forward(self, x: Tensor, t: Tensor, *read: ReadSemantics) -> tuple[Tensor, ...]:
        return tuple(head(x, t, seen) for head, seen in zip(self.heads, read, strict=True))


def calls(case: FamilyCase, device: str = "cpu") -> list[Call]:
    """Every call of a small model of this case, all on `device`.

    Of scales there are two, the first, that reads no map, and one that follows. Training has a model of its own.
    """
    scales = {"scales": [1, 4]} if case.description.draws_scales else {}
    models = [case.model(class_dropout_prob=0.3, **scales).to(device) for _ in range(2)]
    make = _scale_calls if case.description.draws_scales else _velocity_calls
    return [_training_call(case, models[0], device), *make(case, models[1], device)]


class _Values:
    """Random inputs that a seed decides."""

    def __init__(self, seed: int, device: str):
        self.generator, self.device = torch.Generator().manual_seed(seed), device

    def normal(self, *shape: int) -> Tensor:
        return torch.randn(shape, generator=self.generator).to(self.device)

    def uniform(self, *shape: int) -> Tensor:
        return torch.rand(shape, generator=self.generator).to(self.device)

    def labels(self) -> Tensor:
        return torch.randint(11, (BATCH,), generator=self.generator).to(self.device)


def _training_call(case: FamilyCase, model: Any, device: str) -> Call:
    images = (BATCH, 2, 1, SIDE, SIDE) if case.description.reads_sequences else (BATCH, 1, SIDE, SIDE)
    noise, times = images, images[:-3]
    if case.description.draws_scales:
        noise = (BATCH, sum(side**2 for side in model.scales), model.flow_head.token_channels)
        times = (BATCH, len(model.scales))

    def inputs(seed: int) -> tuple[Tensor, ...]:
        values = _Values(seed, device)
        drawn = values.normal(*noise), values.uniform(*times), values.uniform(BATCH)
        return (values.normal(*images), values.labels(), *drawn)

    return Call("training", _Training(case, model), inputs, loss=True)


def _velocity_calls(case: FamilyCase, model: Any, device: str) -> list[Call]:
    step, leading = _Velocity(model), (BATCH, 1) if case.description.reads_sequences else (BATCH,)

    def first(seed: int) -> tuple[Tensor, ...]:
        values = _Values(seed, device)
        return values.normal(*leading, 1, SIDE, SIDE), values.uniform(*leading), values.labels()

    def later(seed: int) -> tuple[Tensor, ...]:
        with torch.no_grad():
            _, *state = step(*first(seed + 1))
        return (*first(seed), *state)

    if not case.description.reads_sequences:
        return [Call("step", step, first)]
    return [Call("first step", step, first), Call("later step", step, later)]


def _scale_calls(case: FamilyCase, model: Any, device: str) -> list[Call]:
    found = []
    for k, side in enumerate(model.scales):

        def semantics(seed: int, k: int = k) -> tuple[Any, ...]:
            """Those of scale k: the memory of the scales before it, the map of the last one."""
            values = _Values(seed, device)
            labels, previous, cache = values.labels(), None, model.new_cache(BATCH)
            with torch.no_grad():
                for each in model.scales[:k]:
                    _, cache = model.next_semantics(previous, labels, cache)
                    size = each * model.config.patch_size
                    previous = values.normal(BATCH, 1, size, size)
            # Memory that is not filled yet holds anything; zeros, so that it can be compared.
            memory = [torch.zeros_like(each) if k == 0 else each for each in tensors_of(cache)]
            return (labels, previous, *memory)

        def velocities(seed: int, side: int = side) -> tuple[Any, ...]:
            values = _Values(seed, device)
            x, t = values.normal(BATCH, side**2, model.flow_head.token_channels), values.uniform(BATCH)
            with torch.no_grad():
                seen = values.normal(BATCH, side**2, model.config.hidden_size)
                return (x, t, *(head.read(seen, (side,)) for head in model.flow_heads))

        found.append(Call(f"semantics of scale {k + 1}", _Semantics(model, k), semantics))
        found.append(Call(f"flow heads at scale {k + 1}", _Velocities(model.flow_heads), velocities))
    return found
