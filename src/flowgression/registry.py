"""The families of models: one description each, from which every table of the package follows.

A new family is its folder under `families`, one entry here, and a configuration. Importing this loads no torch: classes
and functions are named as "module:attribute" and imported on first use.
"""

import inspect
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib import import_module
from typing import Any

from flowgression.errors import InputError, did_you_mean
from flowgression.typed import check_arguments


@dataclass(frozen=True, kw_only=True)
class Circuit:
    """How a family's models become circuits.

    Attributes:
        network: what kind of network they are, a name of `circuits.frontend.NETWORKS`.
        describe: "module:attribute" of (model, steps, guidance, solver) -> sizes and arrays of that network.
        published: "module:attribute" of (preset, steps, guidance) -> sizes of a published one; None: none are counted.
        small: names under which commands know small ones with random weights, and sizes of each.
    """

    network: str
    describe: str
    published: str | None = None
    small: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)

    @property
    def describe_function(self) -> Any:
        """What `describe` names."""
        return _resolve(self.describe)

    @property
    def published_function(self) -> Any:
        """What `published` names."""
        return _resolve(str(self.published))


@dataclass(frozen=True, kw_only=True)
class Family:
    """What the package knows about one family of models.

    Attributes:
        name: as `model.family` and `--family` spell it.
        title: name of the model class, and of the family in texts.
        paper: title and arXiv number.
        model, pipeline, objective: "module:attribute" of the class of models, of their pipeline, and of what they are
            trained on (see `training.objectives.Objective`).
        average_objective: "module:attribute" of the same for average velocities (`objective: meanflow`); None where
            the models cannot learn them.
        presets: module with PRESETS and preset_config.
        converter: "module:attribute" of what reads released weights; None where nothing is released.
        autoencoder: the autoencoder that released models were trained with, a name of `autoencoders.presets`.
        nfe_module: the part of the model that one function evaluation (NFE) of the flow calls; "" is the whole model.
        sequence_length: images of a training sequence by default; None for models that read single images.
        null_label: whether training drops labels, so that the model can be guided.
        draws_scales: whether the model draws an image scale by scale, coarse to fine.
        path: between noise and data, that models are trained on by default.
        export: "module:attribute" of what makes graphs of a model (model -> `export.graph.Exported`); None: no export.
        circuit: how models become circuits; None for models that do not.
        sampling: defaults of the pipeline's sampling options.
    """

    name: str
    title: str
    paper: str
    model: str
    pipeline: str
    objective: str
    presets: str
    converter: str | None = None
    average_objective: str | None = None
    autoencoder: str | None = None
    nfe_module: str = ""
    sequence_length: int | None = None
    null_label: bool = True
    draws_scales: bool = False
    path: str = "linear"
    export: str | None = None
    circuit: Circuit | None = None
    sampling: Mapping[str, Any] = field(default_factory=dict)

    @property
    def reads_sequences(self) -> bool:
        """Whether a call of the model in training sees several images of one class."""
        return self.sequence_length is not None

    @property
    def model_class(self) -> Any:
        """The class of models."""
        return _resolve(self.model)

    @property
    def pipeline_class(self) -> Any:
        """The class of pipelines."""
        return _resolve(self.pipeline)

    @property
    def objective_function(self) -> Any:
        """What the models are trained on: (model, images, class_labels, random) -> ObjectiveOutput."""
        return _resolve(self.objective)

    @property
    def average_objective_function(self) -> Any:
        """(model, images, class_labels, random, settings) -> ObjectiveOutput; None where there is none."""
        return None if self.average_objective is None else _resolve(self.average_objective)

    @property
    def presets_module(self) -> Any:
        """The module of published sizes: PRESETS and preset_config."""
        return import_module(self.presets)

    @property
    def export_function(self) -> Any:
        """What makes graphs of a model. Raises InputError where the family has no export."""
        if self.export is None:
            known = ", ".join(family.title for family in FAMILIES.values() if family.export is not None)
            raise InputError(f"a {self.title} has no export; models with one: {known}.")
        return _resolve(self.export)

    def load_released(self) -> Any:
        """The function that reads released weights. Raises InputError where the family has none."""
        if self.converter is None:
            raise InputError(f"no weights of the family {self.name} were released; families with some: {_released()}.")
        return _resolve(self.converter)


MOST_BLOCKS, MOST_SIZE, MOST_SIDE = 1024, 2**20, 1024
"""Bounds of depths and lists, of any other size, and of patches a side: a number that is mistyped, or meant to hang."""

FAMILIES: dict[str, Family] = {
    family.name: family
    for family in (
        Family(
            name="arflow",
            title="ARFlow",
            paper="ARFlow: Autoregressive Flow with Hybrid Linear Attention, arXiv:2501.16085",
            model="flowgression.families.arflow.model:ARFlow",
            pipeline="flowgression.families.arflow.pipeline:ARFlowPipeline",
            objective="flowgression.families.arflow.training:arflow_objective",
            average_objective="flowgression.families.arflow.training:arflow_average_objective",
            presets="flowgression.families.arflow.presets",
            converter="flowgression.families.arflow.released:load_released",
            export="flowgression.families.arflow.export:exported",
            autoencoder="sd-vae",
            circuit=Circuit(
                network="grid",
                describe="flowgression.families.dit.circuit:describe",
                small={"arflow": {"context": "hybrid"}},
            ),
            sequence_length=5,
            sampling={"num_inference_steps": 50, "guidance_scale": 1.5},
        ),
        Family(
            name="sit",
            title="SiT",
            paper="SiT: Exploring Flow and Diffusion-based Generative Models with Scalable Interpolant Transformers, "
            "arXiv:2401.08740",
            model="flowgression.families.sit.model:SiT",
            pipeline="flowgression.families.sit.pipeline:SiTPipeline",
            objective="flowgression.families.sit.training:sit_objective",
            average_objective="flowgression.families.sit.training:sit_average_objective",
            presets="flowgression.families.sit.presets",
            converter="flowgression.families.sit.released:load_released",
            export="flowgression.families.sit.export:exported",
            autoencoder="sd-vae",
            circuit=Circuit(network="grid", describe="flowgression.families.dit.circuit:describe", small={"sit": {}}),
            sampling={"num_inference_steps": 50, "guidance_scale": 1.5},
        ),
        # FastFlowAR (arXiv:2502.16490) is the same class with attention="lowrank".
        Family(
            name="flowar",
            title="FlowAR",
            paper="FlowAR: Scale-wise Autoregressive Image Generation Meets Flow Matching, arXiv:2412.15205",
            model="flowgression.families.flowar.model:FlowAR",
            pipeline="flowgression.families.flowar.pipeline:FlowARPipeline",
            objective="flowgression.families.flowar.training:flowar_objective",
            average_objective="flowgression.families.flowar.average:flowar_average_objective",
            presets="flowgression.families.flowar.presets",
            converter="flowgression.families.flowar.released:load_released",
            export="flowgression.families.flowar.export:exported",
            autoencoder="mar-kl16",
            nfe_module="flow_head",
            draws_scales=True,
            circuit=Circuit(
                network="scales",
                describe="flowgression.families.flowar.circuit:describe",
                published="flowgression.families.flowar.circuit:published",
                small={"flowar": {}, "fastflowar": {"lowrank": True}},
            ),
            sampling={"num_inference_steps": 25, "guidance_scale": 2.0},
        ),
        Family(
            name="hofar",
            title="HOFAR",
            paper="HOFAR: High-Order Augmentation of Flow Autoregressive Transformers, arXiv:2503.08032",
            model="flowgression.families.hofar.model:HOFAR",
            pipeline="flowgression.families.flowar.pipeline:FlowARPipeline",
            objective="flowgression.families.flowar.training:flowar_objective",
            presets="flowgression.families.hofar.presets",
            autoencoder="mar-kl16",
            nfe_module="flow_head",
            draws_scales=True,
            path="gvp",
            circuit=Circuit(network="scales", describe="flowgression.families.flowar.circuit:describe"),
            sampling={"num_inference_steps": 25, "guidance_scale": 2.0, "solver": "taylor"},
        ),
    )
}


def find_family(name: str, what: str = "model family ") -> Family:
    """The family called `name`. Raises InputError, which begins with `what` and the name, for an unknown one.

    >>> from flowgression.models import find_family
    >>> find_family("flowar").title
    'FlowAR'
    """
    if name not in FAMILIES:
        raise InputError(f"{what}{name!r} is unknown: {did_you_mean(name, FAMILIES)}")
    return FAMILIES[name]


def family_of_class(title: str) -> Family | None:
    """The family whose models are of the class called `title`; None for a class of something else."""
    return next((family for family in FAMILIES.values() if family.title == title), None)


def family_of(model: Any) -> Family:
    """The family of a model. Raises InputError for an object of something else."""
    family = family_of_class(type(model).__name__)
    if family is None:
        known = ", ".join(family.title for family in FAMILIES.values())
        raise InputError(f"no pipeline for a {type(model).__name__}; models with one: {known}.")
    return family


def build_model(family: str, preset: str | None = None, **args: Any) -> Any:
    """A new model with random weights: a published size with `args` on top, or `args` alone.

    Raises:
        InputError: an unknown family, preset or argument, or values that do not fit each other.
    """
    cls = find_family(family).model_class
    options = [name for name in inspect.signature(cls.__init__).parameters if name != "self"]
    for name in args:
        if name not in options:
            raise InputError(f"{family} has no argument {name!r}: {did_you_mean(name, options)}")
    check_model_arguments(cls, args, f"{family}: ")
    try:
        return cls.from_preset(preset, **args) if preset is not None else cls(**args)
    except InputError:
        raise
    except Exception as error:  # sizes that no check foresaw: of layers that torch refuses, or beyond the memory
        raise InputError(f"{family} cannot be built with these arguments: {' '.join(str(error).split())}") from error


def check_model_arguments(model_class: Any, args: Mapping[str, Any], where: str) -> None:
    """Refuse arguments of a model that are of another type, or of sizes that nobody means.

    Raises:
        InputError: naming the first of them.
    """
    check_arguments(model_class.__init__, args, where)
    for name, value in args.items():
        most = MOST_BLOCKS if name.endswith("depth") else MOST_SIZE
        numbers = value if isinstance(value, list | tuple) else [value]
        if len(numbers) > MOST_BLOCKS or any(isinstance(number, int) and number > most for number in numbers):
            shown = f"{name}={value!r}" if len(repr(value)) < 80 else name
            raise InputError(f"{where}{shown} is beyond what models here are built for: at most {most:,}")
    size, patch = args.get("sample_size"), args.get("patch_size") or 1
    sides = size if isinstance(size, list | tuple) else [size]
    if all(isinstance(each, int) for each in (*sides, patch)) and max(sides) // max(patch, 1) > MOST_SIDE:
        raise InputError(f"{where}sample_size={size} in patches of {patch} is more than {MOST_SIDE} patches a side")


def pipeline_names() -> dict[str, str]:
    """The classes of pipelines: their names, and "module:attribute" of each."""
    return {family.pipeline.partition(":")[2]: family.pipeline for family in FAMILIES.values()}


def pipeline_class(name: str) -> Any:
    """The pipeline class of this name; KeyError for any other than those in `pipeline_names`."""
    return _resolve(pipeline_names()[name])


def _resolve(name: str) -> Any:
    module, _, attribute = name.partition(":")
    return getattr(import_module(module), attribute)


def _released() -> str:
    return ", ".join(family.name for family in FAMILIES.values() if family.converter is not None)
