"""What the compiler asks of families: the networks that they are, of a trained model or with random weights.

A family's description names the network (NETWORKS) and the function that reads its models into plain sizes and arrays.
Nothing else of the compiler knows a family, and this file loads PyTorch for a trained model alone.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from flowgression.circuits.compile import Program
from flowgression.circuits.dit_spec import DiTSpec, random_dit
from flowgression.circuits.flowar_spec import FlowARSpec, random_spec, shapes_only
from flowgression.circuits.programs import EXP_POLYNOMIAL, dit_program, flowar_program
from flowgression.documents import read_json
from flowgression.errors import InputError, reading
from flowgression.registry import FAMILIES, Family, family_of


@dataclass(frozen=True)
class Network:
    """A kind of network that the compiler lowers.

    Attributes:
        spec: its class of specs. program: of a spec.
        random: (seed, **sizes) -> a spec with random weights.
        sizes: (n, width) -> the sizes of a small one that grows with n, the side of its finest map.
        sides: the usual n.
    """

    spec: type[Any]
    program: Callable[[Any], Program]
    random: Callable[..., Any]
    sizes: Callable[[int, int], dict[str, Any]]
    sides: tuple[int, ...]


def _scales(n: int, width: int) -> dict[str, Any]:
    """One block in the transformer and one in the flow head."""
    return {"scales": (n // 2, n), "width": width, "flow_width": width, "decoder_depth": 0, "num_classes": 4}


def _grid(n: int, width: int) -> dict[str, Any]:
    """One block, two steps, so that a state is read."""
    return {"grid": (n, n), "width": width, "mlp_width": 2 * width, "times": (0.0, 0.5, 1.0)}


NETWORKS = {
    "scales": Network(FlowARSpec, flowar_program, random_spec, _scales, (4, 6, 8)),
    "grid": Network(DiTSpec, dit_program, random_dit, _grid, (2, 3, 4)),
}
"""Networks that draw maps scale by scale, and transformers on one grid of patches."""


def compiled_families() -> dict[str, Family]:
    """The families that have circuits, by the names of their classes."""
    return {family.title: family for family in FAMILIES.values() if family.circuit is not None}


def read_model(
    model: Any,
    steps: int | Sequence[float],
    guidance_scale: float = 1.0,
    guidance_interval: tuple[float, float] = (0.0, 1.0),
    solver: str | None = None,
) -> Any:
    """The spec that samples like a model, by Euler's steps or, of a HOFAR, Taylor's.

    Args:
        steps: equal ones (at each scale), or their times, rising from 0 (noise) to 1 (data).
        guidance_scale, guidance_interval: as in sampling, of all channels; times from 0 (noise) to 1 (data).
        solver: "euler", or for a HOFAR also "taylor"; None: taylor for a HOFAR, euler for all others.

    Raises:
        InputError: guidance by a model that was trained without a null label; a solver that the model cannot use.
    """
    circuit = family_of(model).circuit
    if circuit is None:
        known = ", ".join(compiled_families())
        raise InputError(f"a {type(model).__name__} has no circuit; circuits are compiled from {known}.")
    sizes = circuit.describe_function(model, steps, (guidance_scale, guidance_interval), solver)
    return NETWORKS[circuit.network].spec(**sizes, title=type(model).__name__)


def read_flowar(model: Any, times: Sequence[float], **sampling: Any) -> FlowARSpec:
    """The spec that samples like a FlowAR or HOFAR on the rising grid `times` from 0 to 1; see `read_model`.

    What depends on the class or on the time alone (modulations of the transformer, time embeddings) is computed, in
    float64, and becomes a constant.
    """
    return read_model(model, times, **sampling)


def read_dit(model: Any, times: Sequence[float], **sampling: Any) -> DiTSpec:
    """The spec that samples like a SiT or ARFlow by Euler steps on the rising grid `times` from 0 to 1; see
    `read_model`. Time embeddings are computed and become constants.
    """
    return read_model(model, times, **sampling)


def load_model(folder: Path) -> Any:
    """A trained FlowAR, HOFAR, SiT or ARFlow from its folder. Raises InputError for another kind of model."""
    with reading(folder / "config.json", "copy or save the model again"):
        found = str(read_json(folder / "config.json").get("_class_name"))
    known = compiled_families()
    if found not in known:
        raise InputError(f"{folder} holds a {found}; circuits are compiled from {', '.join(known)}.")
    return known[found].model_class.from_pretrained(folder)


def program_of(spec: Any) -> Program:
    """The program of a spec: that of its network."""
    return next(network.program(spec) for network in NETWORKS.values() if isinstance(spec, network.spec))


@dataclass(frozen=True)
class Small:
    """A small network of a family, with random weights. `extra`: sizes besides those that grow with n."""

    network: Network
    extra: Mapping[str, Any]

    def spec(self, n: int, width: int) -> Any:
        """With maps of side n."""
        return self.network.random(0, **self.network.sizes(n, width), **self.extra)

    def with_sizes(self, **sizes: Any) -> Any:
        """With sizes of the caller's."""
        return self.network.random(0, **sizes, **self.extra)


def small_networks() -> dict[str, Small]:
    """The small networks of all families, by the names under which commands know them."""
    found = {}
    for family in compiled_families().values():
        assert family.circuit is not None
        for name, given in family.circuit.small.items():
            extra = {key: value for key, value in given.items() if key != "lowrank"} | {"title": family.title}
            if given.get("lowrank"):
                extra["polynomial_coefficients"] = EXP_POLYNOMIAL
            found[name] = Small(NETWORKS[family.circuit.network], extra)
    return found


def published_sizes() -> dict[str, tuple[Family, str]]:
    """Published sizes that can be counted without weights: "flowar-s", "fastflowar-l", ... -> family and preset."""
    found = {}
    for family in compiled_families().values():
        if family.circuit is not None and family.circuit.published is not None:
            for preset in family.presets_module.PRESETS:
                kind, _, size = preset.rpartition("-")
                found[f"{kind}{family.name}-{size}".lower()] = (family, preset)
    return found


def read_published(name: str, steps: int, guidance_scale: float, guidance_interval: tuple[float, float]) -> Any:
    """The spec of a published size, whose arrays hold one typical value each: enough to count."""
    family, preset = published_sizes()[name]
    assert family.circuit is not None
    sizes = family.circuit.published_function(preset, steps, (guidance_scale, guidance_interval))
    return shapes_only(**sizes, title=family.title)
